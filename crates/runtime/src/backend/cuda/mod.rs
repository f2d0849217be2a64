//! Our own kernels for NVIDIA GPUs, beside those of the tensor library.
//!
//! They are in `kernels/`. Each takes one struct, whose Rust counterpart stands
//! beside the function that launches the kernel. `backend.rs` is the seam to the
//! operations; `fuse.rs` finds the steps of a graph that a kernel computes as
//! one; `launch_queue.rs` collects the launches of a call, and `graph_capture.rs`
//! sends them. Where an operand is stored otherwise than a kernel expects,
//! there is no result, and the tensor library computes it.

mod attention;
mod backend;
mod copy;
mod fuse;
mod fused_elementwise;
mod graph_capture;
mod launch_queue;
mod product;
mod rope;
mod row_kernels;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytemuck::NoUninit;
use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Storage, Tensor,
    cuda_backend::{
        CudaStorageSlice,
        cudarc::{
            driver::{
                CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, DriverError, sys,
            },
            nvrtc::Ptx,
        },
    },
    op::BackpropOp,
};
use half::f16;

use graph_capture::{CaptureStream, CapturedGraph, Launch};

use super::FusedOp;
use crate::{
    error::{OpResult, Problem, refuse},
    ops::Operands,
    value::Value,
};

use copy::contiguous;
use fused_elementwise::FusedElementwise;
use product::Product;
use rope::MixedRope;

pub(crate) use backend::{backend, prepare};
pub(crate) use launch_queue::flush;
pub(crate) use row_kernels::argmax;

mod ptx {
    include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
}

/// Threads of most blocks; the same as in `kernels/`.
const THREADS: usize = 256;
/// Rows of such a block, where each warp computes one.
const WARPS: usize = THREADS / 32;
/// Integers that a launch carries in its parameters.
const INLINE: usize = 8;
/// Bytes of shared memory that a block has by default.
const SHARED: usize = 48 << 10;
/// Floats for partial results of an attention.
const SCRATCH: usize = 1 << 21;
/// Counters of groups of heads.
const COUNTERS: usize = 1 << 10;
/// The maximum number of axes of elementwise operations and copies; the same as in
/// `kernels/`.
const RANK: usize = 5;
/// The maximum number of blocks for each multiprocessor in elementwise kernels.
const BLOCKS: usize = 16;
/// Lists of integers that stay on the GPU, since the next layer needs them too.
const UPLOADS: usize = 8;

/// An operation that was fused from several.
#[derive(Debug)]
enum Fused {
    Product(Product),
    Rope(MixedRope),
    Elementwise(FusedElementwise),
}

impl FusedOp for Fused {
    fn run(&self, operands: &Operands<'_>) -> OpResult<Value> {
        match self {
            Self::Product(product) => product.run(operands),
            Self::Rope(rope) => rope.run(operands),
            Self::Elementwise(ops) => ops.run(operands),
        }
    }

    fn by_rows(&self) -> bool {
        matches!(self, Self::Product(product) if !product.add)
    }
}

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    ProductInt8,
    ProductHalf,
    GatedInt8,
    GatedHalf,
    Dequantize,
    NormRows,
    Rope,
    Attention1,
    Attention2,
    Attention4,
    Softmax,
    Elementwise1,
    Elementwise8,
    Copy1,
    Copy8,
    GatherRows,
    Argmax,
}

/// The kernels and their names in `kernels/`.
const KERNELS: [(Kernel, &str); 17] = [
    (Kernel::ProductInt8, "product_int8"),
    (Kernel::ProductHalf, "product_half"),
    (Kernel::GatedInt8, "gated_int8"),
    (Kernel::GatedHalf, "gated_half"),
    (Kernel::Dequantize, "dequantize"),
    (Kernel::NormRows, "norm_rows"),
    (Kernel::Rope, "rope"),
    (Kernel::Attention1, "attention_1"),
    (Kernel::Attention2, "attention_2"),
    (Kernel::Attention4, "attention_4"),
    (Kernel::Softmax, "softmax"),
    (Kernel::Elementwise1, "elementwise_1"),
    (Kernel::Elementwise8, "elementwise_8"),
    (Kernel::Copy1, "copy_1"),
    (Kernel::Copy8, "copy_8"),
    (Kernel::GatherRows, "gather_rows"),
    (Kernel::Argmax, "argmax"),
];

impl From<DriverError> for Problem {
    fn from(error: DriverError) -> Self {
        Self(format!("CUDA: {error}"))
    }
}

/// A GPU with the kernels loaded. All work goes through the one stream of the
/// device, so that what is launched later may read the results and free the
/// operands of what was launched before.
struct CudaContext {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    functions: Vec<CudaFunction>,
    /// Whether a kernel may be launched while the one before it runs.
    overlap: bool,
    multiprocessors: usize,
    parts: CudaSlice<f32>,
    counters: CudaSlice<u32>,
    uploads: Mutex<VecDeque<(Vec<i32>, Tensor)>>,
    /// Memory for the results of a call, while no call has it.
    slabs: Mutex<Vec<Tensor>>,
    graphs: Mutex<Vec<CapturedGraph>>,
    /// Used while `graphs` is locked.
    capture_stream: CaptureStream,
}

/// The contexts of the last few devices that were used.
static CONTEXTS: Mutex<VecDeque<Arc<CudaContext>>> = Mutex::new(VecDeque::new());
const CONTEXTS_KEPT: usize = 8;

impl CudaContext {
    /// The context of a device; `None` where that is not an NVIDIA GPU.
    pub fn of(device: &Device) -> OpResult<Option<Arc<Self>>> {
        let Device::Cuda(device) = device else {
            return Ok(None);
        };
        let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = contexts.iter().find(|cuda| cuda.device.id() == device.id());
        if let Some(cuda) = known {
            return Ok(Some(cuda.clone()));
        }
        let cuda = Arc::new(Self::new(device)?);
        contexts.truncate(CONTEXTS_KEPT - 1);
        contexts.push_front(cuda.clone());
        Ok(Some(cuda))
    }

    fn new(device: &CudaDevice) -> OpResult<Self> {
        let stream = device.cuda_stream();
        let context = stream.context();
        context.bind_to_thread()?;
        let sources = [ptx::PRODUCTS, ptx::ATTENTION, ptx::ROWS, ptx::ELEMENTS];
        let modules = sources.map(|source| context.load_module(Ptx::from_src(source)));
        let modules = modules.into_iter().collect::<Result<Vec<_>, _>>()?;
        let function = |name: &str| {
            let found = modules.iter().map(|module| module.load_function(name));
            found.reduce(|have, next| have.or(next))
        };
        let functions = KERNELS.iter().filter_map(|(_, name)| function(name));
        let functions = functions.collect::<Result<Vec<_>, _>>()?;
        let multiprocessors =
            sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        Ok(Self {
            functions,
            overlap: context.compute_capability()?.0 >= 9,
            multiprocessors: context.attribute(multiprocessors)?.max(1) as usize,
            parts: stream.alloc_zeros(SCRATCH)?,
            counters: stream.alloc_zeros(COUNTERS)?,
            uploads: Mutex::new(VecDeque::new()),
            slabs: Mutex::new(Vec::new()),
            graphs: Mutex::new(Vec::new()),
            capture_stream: CaptureStream::new()?,
            device: device.clone(),
            stream,
        })
    }

    /// Launches a kernel: with the others of the call, if there is one.
    ///
    /// # Safety
    /// `parameters` is the kernel's struct, and all that it points to is
    /// memory of this GPU that this stream may use.
    unsafe fn launch<T: NoUninit>(
        &self,
        kernel: Kernel,
        grid: [usize; 3],
        threads: usize,
        shared: usize,
        parameters: &T,
    ) -> OpResult<()> {
        let mut blocks = [0_u32; 3];
        for (blocks, extent) in blocks.iter_mut().zip(grid) {
            *blocks = match u32::try_from(extent) {
                Ok(extent @ 1..) => extent,
                _ => return refuse(format!("{grid:?} blocks cannot be launched")),
            };
        }
        let bytes = bytemuck::bytes_of(parameters);
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        let launch = Launch {
            kernel,
            grid: blocks,
            threads: threads as u32,
            shared: shared as u32,
            parameters: words,
        };
        match launch_queue::enqueue(self, launch)? {
            Some(launch) => self.send(&launch),
            None => Ok(()),
        }
    }

    /// Memory that is not initialized.
    fn alloc_uninit<T: DeviceRepr>(&self, count: usize) -> OpResult<CudaSlice<T>> {
        // SAFETY: the callers launch a kernel next that writes all of it, before
        // anything reads it.
        Ok(unsafe { self.device.alloc(count)? })
    }

    fn pointer<T>(&self, slice: &CudaSlice<T>) -> u64 {
        slice.device_ptr(&self.stream).0
    }

    /// A tensor of f16 for a result, uninitialized, and its address.
    fn alloc_output(&self, dims: &[usize]) -> OpResult<(Tensor, u64)> {
        if let Some(result) = launch_queue::alloc_output(self, dims)? {
            return Ok(result);
        }
        let slice = self.alloc_uninit(dims.iter().product())?;
        let pointer = self.pointer(&slice);
        Ok((self.f16_tensor(slice, dims), pointer))
    }

    fn f16_tensor(&self, slice: CudaSlice<f16>, dims: impl Into<candle_core::Shape>) -> Tensor {
        self.tensor(CudaStorageSlice::F16(slice), dims)
    }

    fn tensor(&self, slice: CudaStorageSlice, dims: impl Into<candle_core::Shape>) -> Tensor {
        let storage = CudaStorage {
            slice,
            device: self.device.clone(),
        };
        Tensor::from_storage(Storage::Cuda(storage), dims, BackpropOp::none(), false)
    }

    /// The memory of a tensor of f16, if it is on this GPU.
    fn f16_view(&self, tensor: &Tensor) -> Option<DeviceView> {
        match tensor.dtype() {
            DType::F16 => self.float_view(tensor),
            _ => None,
        }
    }

    /// The memory of a tensor of f16 or f32, if it is on this GPU.
    fn float_view(&self, tensor: &Tensor) -> Option<DeviceView> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return None;
        };
        if storage.device.id() != self.device.id() {
            return None;
        }
        let (pointer, size) = match &storage.slice {
            CudaStorageSlice::F16(slice) => (self.pointer(slice), 2),
            CudaStorageSlice::F32(slice) => (self.pointer(slice), 4),
            _ => return None,
        };
        Some(DeviceView {
            pointer: pointer + (layout.start_offset() * size) as u64,
            dims: layout.dims().to_vec(),
            strides: layout.stride().to_vec(),
            contiguous: layout.is_contiguous(),
            half: size == 2,
        })
    }

    /// Integers for a kernel: in the launch, or in memory of the GPU.
    fn integers(&self, values: &[i32]) -> OpResult<Integers> {
        let mut few = [0; INLINE];
        if let Some(few) = few.get_mut(..values.len()) {
            few.copy_from_slice(values);
        } else {
            let many = self.upload(values)?;
            let pointer = {
                let (storage, _) = many.storage_and_layout();
                match &*storage {
                    Storage::Cuda(CudaStorage {
                        slice: CudaStorageSlice::I32(slice),
                        ..
                    }) => self.pointer(slice),
                    _ => return refuse("integers are not on the GPU"),
                }
            };
            return Ok(Integers {
                few,
                pointer,
                _many: Some(many),
            });
        }
        Ok(Integers {
            few,
            pointer: 0,
            _many: None,
        })
    }

    /// Integers on the GPU; the last few lists stay there.
    fn upload(&self, values: &[i32]) -> OpResult<Tensor> {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tensor)) = uploads.iter().find(|(known, _)| known == values) {
            return Ok(tensor.clone());
        }
        flush()?;
        let device = Device::Cuda(self.device.clone());
        let tensor = Tensor::from_slice(values, values.len(), &device)?;
        uploads.truncate(UPLOADS - 1);
        uploads.push_front((values.to_vec(), tensor.clone()));
        Ok(tensor)
    }
}

/// Floats in memory of the GPU.
struct DeviceView {
    pointer: u64,
    dims: Vec<usize>,
    strides: Vec<usize>,
    contiguous: bool,
    half: bool,
}

impl DeviceView {
    /// Whether 16 bytes of f16 can be read at once at multiples of 8 of
    /// the last axis.
    fn aligned(&self) -> bool {
        let outer = self.strides.split_last();
        self.pointer.is_multiple_of(16)
            && outer.is_some_and(|(last, outer)| {
                let mut outer = outer.iter().zip(&self.dims);
                *last == 1 && outer.all(|(stride, dim)| *dim == 1 || stride % 8 == 0)
            })
    }
}

/// Extents and the steps of each view along them, outermost first. Axes that
/// are contiguous in all views are merged.
fn axes(dims: &[usize], strides: &[Vec<usize>]) -> Vec<(usize, Vec<usize>)> {
    let mut axes: Vec<(usize, Vec<usize>)> = Vec::new();
    for (axis, &extent) in dims.iter().enumerate() {
        if extent == 1 {
            continue;
        }
        let steps: Vec<usize> = strides.iter().map(|own| own[axis]).collect();
        if let Some((outer, outer_steps)) = axes.last_mut() {
            let mut pairs = outer_steps.iter().zip(&steps);
            if pairs.all(|(outer, inner)| *outer == inner * extent) {
                (*outer, *outer_steps) = (*outer * extent, steps);
                continue;
            }
        }
        axes.push((extent, steps));
    }
    axes
}

/// Counts eight elements of the last axis as one, where that suits all views:
/// their elements are contiguous, or all the same.
fn by_eight(axes: &mut [(usize, Vec<usize>)], pointers: &[u64]) -> bool {
    let Some(((extent, steps), outer)) = axes.split_last_mut() else {
        return false;
    };
    let fits = |view: usize| match steps[view] {
        0 => true,
        1 => {
            pointers[view].is_multiple_of(16) && outer.iter().all(|(_, steps)| steps[view] % 8 == 0)
        }
        _ => false,
    };
    let wide = *extent % 8 == 0 && (0..steps.len()).all(fits);
    if wide {
        *extent /= 8;
        steps.iter_mut().for_each(|step| *step *= 8);
    }
    wide
}

/// Axes as a kernel takes them: the extents, and the steps of each view.
fn axis_args<const VIEWS: usize>(
    axes: &[(usize, Vec<usize>)],
) -> Option<([i32; RANK], [[i32; RANK]; VIEWS])> {
    let first = RANK.checked_sub(axes.len())?;
    let (mut extents, mut strides) = ([1; RANK], [[0; RANK]; VIEWS]);
    for (at, (extent, steps)) in (first..).zip(axes) {
        extents[at] = i32::try_from(*extent).ok()?;
        for (own, step) in strides.iter_mut().zip(steps) {
            own[at] = i32::try_from(*step).ok()?;
        }
    }
    Some((extents, strides))
}

/// Integers for a kernel.
struct Integers {
    few: [i32; INLINE],
    /// 0 where the few are all.
    pointer: u64,
    /// Keeps the memory until the launch is in the stream.
    _many: Option<Tensor>,
}
