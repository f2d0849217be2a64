//! Launches that are sent together, as a CUDA graph. Where a list of launches
//! differs from an earlier one in its parameters only, the graph of that one is
//! updated and used again.

use std::{
    ffi::c_void,
    ptr::{null, null_mut},
    sync::PoisonError,
};

use candle_core::cuda_backend::cudarc::driver::{result, sys};

use super::{CudaContext, KERNELS, Kernel};
use crate::error::{OpResult, refuse};

/// The fewest launches that are worth a graph.
const MIN_LAUNCHES: usize = 16;
/// Graphs that are kept.
const MAX_GRAPHS: usize = 64;

/// A kernel, its grid and its parameters.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Launch {
    pub kernel: Kernel,
    pub grid: [u32; 3],
    pub threads: u32,
    pub shared: u32,
    /// The kernel's struct.
    pub parameters: Vec<u64>,
}

/// A list of launches as a CUDA graph.
pub(super) struct CapturedGraph {
    /// How many lists of the same call came before.
    order: usize,
    launches: Vec<Launch>,
    nodes: Vec<sys::CUgraphNode>,
    graph: sys::CUgraph,
    exec: sys::CUgraphExec,
}

// SAFETY: CUDA lets any thread use a graph and its nodes, one at a time; a
// `CapturedGraph` is only used by who owns it.
unsafe impl Send for CapturedGraph {}

impl Drop for CapturedGraph {
    fn drop(&mut self) {
        // SAFETY: `capture` made both, and nothing else has them. Destroying
        // them does not stop what still runs.
        unsafe {
            if !self.exec.is_null() {
                let _ = result::graph::exec_destroy(self.exec);
            }
            let _ = result::graph::destroy(self.graph);
        }
    }
}

/// A stream into which launches are captured and nothing else goes. Other
/// threads may put work into the stream of the device at any time, which must
/// not become a part of the graph.
pub(super) struct CaptureStream(sys::CUstream);

// SAFETY: CUDA lets any thread use a stream.
unsafe impl Send for CaptureStream {}
// SAFETY: as above; it is used only while `CudaContext::graphs` is locked.
unsafe impl Sync for CaptureStream {}

impl CaptureStream {
    /// Makes one for the context that is current on this thread.
    pub fn new() -> OpResult<Self> {
        let kind = result::stream::StreamKind::NonBlocking;
        Ok(Self(result::stream::create(kind)?))
    }
}

impl Drop for CaptureStream {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and nothing else has it.
        unsafe {
            let _ = result::stream::destroy(self.0);
        }
    }
}

impl CudaContext {
    fn function(&self, kernel: Kernel) -> OpResult<sys::CUfunction> {
        let at = KERNELS.iter().position(|(known, _)| *known == kernel);
        match at.and_then(|at| self.functions.get(at)) {
            Some(function) => Ok(function.cu_function()),
            None => refuse("there is no such kernel"),
        }
    }

    /// Puts a launch into the stream of the device.
    pub(super) fn send(&self, launch: &Launch) -> OpResult<()> {
        self.send_to(self.stream.cu_stream(), launch)
    }

    fn send_to(&self, stream: sys::CUstream, launch: &Launch) -> OpResult<()> {
        self.stream.context().bind_to_thread()?;
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue {
                programmaticStreamSerializationAllowed: 1,
            },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: launch.grid[2],
            blockDimX: launch.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared,
            hStream: stream,
            attrs: &mut attribute,
            numAttrs: u32::from(self.overlap),
        };
        let function = self.function(launch.kernel)?;
        let mut arguments = [launch.parameters.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the struct outlives the launch, which copies it; the rest is
        // the promise of who made the launch.
        let status =
            unsafe { sys::cuLaunchKernelEx(&config, function, arguments.as_mut_ptr(), null_mut()) };
        Ok(status.result()?)
    }

    /// Puts launches into the stream; `order` lists of the call came before.
    pub(super) fn submit(&self, order: usize, launches: Vec<Launch>) -> OpResult<()> {
        if launches.len() < MIN_LAUNCHES {
            return launches.iter().try_for_each(|launch| self.send(launch));
        }
        let mut graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &CapturedGraph| {
            let mut pairs = known.launches.iter().zip(&launches);
            known.order == order
                && known.launches.len() == launches.len()
                && pairs.all(|(a, b)| a.kernel == b.kernel)
        };
        let captured = match graphs.iter().position(same) {
            Some(at) => {
                let mut captured = graphs.remove(at);
                self.update(&mut captured, launches)?;
                captured
            }
            None => {
                graphs.truncate(MAX_GRAPHS - 1);
                self.capture(order, launches)?
            }
        };
        // SAFETY: the graph belongs to the stream's context, and who put the
        // launches into the queue vouched for their parameters.
        let status = unsafe { result::graph::launch(captured.exec, self.stream.cu_stream()) };
        graphs.insert(0, captured);
        Ok(status?)
    }

    /// Makes a graph of launches.
    fn capture(&self, order: usize, launches: Vec<Launch>) -> OpResult<CapturedGraph> {
        let stream = self.capture_stream.0;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.context().bind_to_thread()?;
        // SAFETY: the stream is only used here, while `graphs` is locked, and so
        // is not capturing yet.
        unsafe { result::stream::begin_capture(stream, mode)? };
        let nodes: OpResult<Vec<_>> = launches
            .iter()
            .map(|launch| {
                self.send_to(stream, launch)?;
                last_node(stream)
            })
            .collect();
        // SAFETY: the capture was begun above.
        let graph = unsafe { result::stream::end_capture(stream)? };
        // Owns the graph from here on, whatever fails below.
        let mut captured = CapturedGraph {
            order,
            launches,
            nodes: Vec::new(),
            graph,
            exec: null_mut(),
        };
        captured.nodes = nodes?;
        // SAFETY: the graph is complete, and `exec` is a place for its
        // executable form.
        unsafe { sys::cuGraphInstantiateWithFlags(&mut captured.exec, graph, 0).result()? };
        Ok(captured)
    }

    /// Gives a graph the parameters of other launches of the same kernels.
    fn update(&self, captured: &mut CapturedGraph, launches: Vec<Launch>) -> OpResult<()> {
        self.stream.context().bind_to_thread()?;
        let known = captured.launches.iter().zip(&captured.nodes);
        for ((known, node), launch) in known.zip(&launches) {
            if known == launch {
                continue;
            }
            let mut arguments = [launch.parameters.as_ptr().cast_mut().cast::<c_void>()];
            let parameters = sys::CUDA_KERNEL_NODE_PARAMS {
                func: self.function(launch.kernel)?,
                gridDimX: launch.grid[0],
                gridDimY: launch.grid[1],
                gridDimZ: launch.grid[2],
                blockDimX: launch.threads,
                blockDimY: 1,
                blockDimZ: 1,
                sharedMemBytes: launch.shared,
                kernelParams: arguments.as_mut_ptr(),
                extra: null_mut(),
                kern: null_mut(),
                ctx: null_mut(),
            };
            // SAFETY: the node is of this graph, and CUDA copies the struct and the
            // argument that it points to.
            unsafe {
                sys::cuGraphExecKernelNodeSetParams_v2(captured.exec, *node, &parameters)
                    .result()?;
            }
        }
        captured.launches = launches;
        Ok(())
    }
}

/// The node of the last launch into the stream that is being captured.
fn last_node(stream: sys::CUstream) -> OpResult<sys::CUgraphNode> {
    let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    let (mut nodes, mut edges, mut count) = (null(), null(), 0);
    // SAFETY: the pointers that are not null are places for what is asked
    // for; `nodes` then points to `count` nodes, until the next launch.
    unsafe {
        sys::cuStreamGetCaptureInfo_v3(
            stream,
            &mut status,
            null_mut(),
            null_mut(),
            &mut nodes,
            &mut edges,
            &mut count,
        )
        .result()?;
        match count {
            1 => Ok(*nodes),
            _ => refuse("a launch is missing in the graph"),
        }
    }
}
