//! Launches that go to the card together, as a graph. Where a list of launches
//! is the one of last time but for their parameters, its graph is used again.

use std::{
    ffi::c_void,
    ptr::{null, null_mut},
    sync::PoisonError,
};

use candle_core::cuda_backend::cudarc::driver::{result, sys};

use super::{CudaContext, KERNELS, Kernel};
use crate::error::{OpResult, refuse};

/// Launches that are worth a graph.
const WORTH: usize = 16;
/// Graphs that are kept.
const GRAPHS: usize = 64;

/// A kernel with all that it needs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Launch {
    pub kernel: Kernel,
    pub grid: [u32; 3],
    pub threads: u32,
    pub shared: u32,
    /// The kernel's struct.
    pub parameters: Vec<u64>,
}

/// A list of launches as a graph of the card.
pub(super) struct CapturedGraph {
    /// The how manieth of a call they are.
    order: usize,
    launches: Vec<Launch>,
    nodes: Vec<sys::CUgraphNode>,
    graph: sys::CUgraph,
    exec: sys::CUgraphExec,
}

// SAFETY: graphs may be used from any thread, by one at a time.
unsafe impl Send for CapturedGraph {}

impl Drop for CapturedGraph {
    fn drop(&mut self) {
        // SAFETY: they were made by `record`, and nothing else has them. What
        // still runs is not stopped.
        unsafe {
            if !self.exec.is_null() {
                let _ = result::graph::exec_destroy(self.exec);
            }
            let _ = result::graph::destroy(self.graph);
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

    /// Puts a launch into the stream.
    pub(super) fn send(&self, launch: &Launch) -> OpResult<()> {
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
            hStream: self.stream.cu_stream(),
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

    /// Puts launches into the stream, the `order`th of a call.
    pub(super) fn submit(&self, order: usize, launches: Vec<Launch>) -> OpResult<()> {
        if launches.len() < WORTH {
            return launches.iter().try_for_each(|launch| self.send(launch));
        }
        let mut graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &CapturedGraph| {
            let mut pairs = known.launches.iter().zip(&launches);
            known.order == order
                && known.launches.len() == launches.len()
                && pairs.all(|(a, b)| a.kernel == b.kernel)
        };
        let recorded = match graphs.iter().position(same) {
            Some(at) => {
                let mut recorded = graphs.remove(at);
                self.change(&mut recorded, launches)?;
                recorded
            }
            None => {
                graphs.truncate(GRAPHS - 1);
                self.record(order, launches)?
            }
        };
        // SAFETY: the graph is of this card, and its launches are valid now.
        let status = unsafe { result::graph::launch(recorded.exec, self.stream.cu_stream()) };
        graphs.insert(0, recorded);
        Ok(status?)
    }

    /// Makes a graph of launches.
    fn record(&self, order: usize, launches: Vec<Launch>) -> OpResult<CapturedGraph> {
        let stream = self.stream.cu_stream();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.context().bind_to_thread()?;
        // SAFETY: the stream is ours, and captures nothing yet.
        unsafe { result::stream::begin_capture(stream, mode)? };
        let nodes: OpResult<Vec<_>> = launches
            .iter()
            .map(|launch| {
                self.send(launch)?;
                self.last_node()
            })
            .collect();
        // SAFETY: capturing was begun above.
        let graph = unsafe { result::stream::end_capture(stream)? };
        let mut recorded = CapturedGraph {
            order,
            launches,
            nodes: nodes?,
            graph,
            exec: null_mut(),
        };
        // SAFETY: the graph is whole, and `exec` a place for one.
        unsafe { sys::cuGraphInstantiateWithFlags(&mut recorded.exec, graph, 0).result()? };
        Ok(recorded)
    }

    /// The node of what was launched last into the stream that captures.
    fn last_node(&self) -> OpResult<sys::CUgraphNode> {
        let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        let (mut nodes, mut edges, mut count) = (null(), null(), 0);
        // SAFETY: all are places for what is asked for.
        unsafe {
            sys::cuStreamGetCaptureInfo_v3(
                self.stream.cu_stream(),
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
                _ => refuse("a launch is not in the graph"),
            }
        }
    }

    /// Gives a graph the parameters of other launches of the same kernels.
    fn change(&self, recorded: &mut CapturedGraph, launches: Vec<Launch>) -> OpResult<()> {
        self.stream.context().bind_to_thread()?;
        let known = recorded.launches.iter().zip(&recorded.nodes);
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
            // SAFETY: the node is of this graph, and the struct is copied.
            unsafe {
                sys::cuGraphExecKernelNodeSetParams_v2(recorded.exec, *node, &parameters)
                    .result()?;
            }
        }
        recorded.launches = launches;
        Ok(())
    }
}
