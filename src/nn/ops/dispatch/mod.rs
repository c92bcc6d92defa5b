//! Where an op meets a device: one dispatch for forward and backward. An op says its shapes (`Op`), the kernels of a device
//! implement `Kernels` for its storage, and the table in `placement.rs` says which device has kernels of which op.
//! Tensors, graphs and locks end here: a kernel sees storage and layout, an op file sees tensors and no storage.

mod graph;

use std::any::Any;
use std::sync::Mutex;

use candle_core::backend::BackendStorage;
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaStorage, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};
use graph::{Attach, Fused};

/// A contiguous tensor as a kernel sees it, stored as `S`.
pub(super) struct Operand<'a, S> {
    pub storage: &'a S,
    pub layout: &'a Layout,
}

impl<S> Clone for Operand<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Operand<'_, S> {}

impl<'a, S: Stored> Operand<'a, S> {
    /// Errors if the storage is that of another device.
    pub(super) fn new(op: &str, storage: &'a Storage, layout: &'a Layout) -> Result<Self> {
        match S::of(storage) {
            Some(storage) => Ok(Self { storage, layout }),
            None => bail!("{op}: its tensors lie on different devices, one of them on {:?}", storage.device()),
        }
    }

    pub(super) fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// (rows, columns), or an error for what is no matrix.
    pub(super) fn dims2(&self) -> Result<(usize, usize)> {
        self.layout.shape().dims2()
    }

    /// How many values it has.
    pub(super) fn count(&self) -> usize {
        self.layout.shape().elem_count()
    }
}

/// The result of a forward, and the gradient of the loss by it.
pub(super) struct Outcome<'a, S> {
    pub result: Operand<'a, S>,
    pub gradient: Operand<'a, S>,
}

/// The storage of a device.
pub(super) trait Stored: BackendStorage + Sized {
    fn of(storage: &Storage) -> Option<&Self>;
    fn wrap(self) -> Storage;
}

impl Stored for CpuStorage {
    fn of(storage: &Storage) -> Option<&Self> {
        if let Storage::Cpu(storage) = storage { Some(storage) } else { None }
    }

    fn wrap(self) -> Storage {
        Storage::Cpu(self)
    }
}

impl Stored for CudaStorage {
    fn of(storage: &Storage) -> Option<&Self> {
        if let Storage::Cuda(storage) = storage { Some(storage) } else { None }
    }

    fn wrap(self) -> Storage {
        Storage::Cuda(self)
    }
}

/// The kernels of an op with N inputs for tensors stored as `S`.
pub(super) trait Kernels<S, const N: usize> {
    /// The result, shaped as [`Op::shape`] says.
    fn forward(&self, inputs: [Operand<S>; N]) -> Result<S>;

    /// The gradient of every input that is `wanted`, in the shape and dtype of the input.
    fn backward(&self, inputs: [Operand<S>; N], outcome: Outcome<S>, wanted: [bool; N]) -> Result<[Option<S>; N]>;
}

/// An op with N inputs, one result and a gradient.
pub(super) trait Op<const N: usize>: Send + Sync + Sized + 'static {
    const NAME: &'static str;

    /// The shape of the result.
    fn shape(&self, inputs: [&Shape; N]) -> Result<Shape> {
        Ok(inputs[0].clone())
    }

    /// Whether kernels take these dtypes; the others are for the reference. Errors where dtypes have to agree and do not.
    fn takes(&self, inputs: [&Tensor; N]) -> Result<bool> {
        same_floats(Self::NAME, &inputs)
    }
}

/// Which devices have kernels of an op. Implemented by the table in `placement.rs` and nowhere else.
pub(super) trait Placed<const N: usize>: Op<N> {
    fn cpu(&self) -> &dyn Kernels<CpuStorage, N>;

    fn cuda(&self) -> Option<&dyn Kernels<CudaStorage, N>> {
        None
    }
}

/// Runs the kernels of the device that the inputs are on, now and in the backward, or `reference` where there are none.
pub(super) fn apply<O: Placed<N>, const N: usize>(
    op: O,
    inputs: [&Tensor; N],
    reference: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor>
where
    Fused<O>: Attach<N>,
{
    let has_kernels = op.takes(inputs)? && all_on(&inputs, op.cuda().is_some());
    if has_kernels { Fused(op).attach(contiguous(inputs)?) } else { reference() }
}

/// Whether all tensors are on one device with kernels: the CPU, or a GPU if `cuda`.
pub(super) fn all_on(tensors: &[&Tensor], cuda: bool) -> bool {
    let all = |kind: fn(&Device) -> bool| tensors.iter().all(|tensor| kind(tensor.device()));
    all(Device::is_cpu) || cuda && all(Device::is_cuda)
}

/// Whether all of these are f32 or narrower. Mixed dtypes are an error.
pub(super) fn same_floats(op: &str, tensors: &[&Tensor]) -> Result<bool> {
    if let [first, rest @ ..] = tensors
        && let Some(other) = rest.iter().find(|other| other.dtype() != first.dtype())
    {
        bail!("{op}: inputs have different dtypes, {:?} and {:?}", first.dtype(), other.dtype());
    }
    Ok(tensors.iter().all(|tensor| matches!(tensor.dtype(), DType::F32 | DType::BF16 | DType::F16)))
}

fn forward<O: Op<N>, S, const N: usize>(
    op: &O,
    kernels: Option<&dyn Kernels<S, N>>,
    inputs: [(&S, &Layout); N],
) -> Result<(S, Shape)> {
    let Some(kernels) = kernels else { bail!("{}: no kernel for this device", O::NAME) };
    let shape = op.shape(inputs.map(|(_, layout)| layout.shape()))?;
    Ok((kernels.forward(inputs.map(|(storage, layout)| Operand { storage, layout }))?, shape))
}

fn backward<O: Placed<N>, const N: usize>(
    op: &O,
    inputs: [&Tensor; N],
    result: &Tensor,
    gradient: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    match (gradient.device(), op.cuda()) {
        (Device::Cpu, _) => differentiate(O::NAME, op.cpu(), inputs, [result, gradient]),
        (Device::Cuda(_), Some(kernels)) => differentiate(O::NAME, kernels, inputs, [result, gradient]),
        (device, _) => bail!("{}: no kernel for the gradient on {device:?}", O::NAME),
    }
}

fn differentiate<S: Stored, const N: usize>(
    op: &str,
    kernels: &dyn Kernels<S, N>,
    inputs: [&Tensor; N],
    outcome: [&Tensor; 2],
) -> Result<[Option<Tensor>; N]> {
    let wanted = inputs.map(Tensor::track_op);
    let (inputs, outcome) = (contiguous(inputs)?, contiguous(outcome)?);
    let held = (inputs.each_ref().map(Tensor::storage_and_layout), outcome.each_ref().map(Tensor::storage_and_layout));
    let operands = try_map(held.0.each_ref(), |(storage, layout)| Operand::new(op, storage, layout))?;
    let [result, gradient] = try_map(held.1.each_ref(), |(storage, layout)| Operand::new(op, storage, layout))?;
    let mut gradients = kernels.backward(operands, Outcome { result, gradient }, wanted)?.into_iter();
    let shapes = inputs.each_ref().map(Tensor::shape);
    Ok(shapes.map(|shape| gradients.next().flatten().map(|storage| tensor(storage, shape))))
}

/// A tensor without a history.
fn tensor<S: Stored>(storage: S, shape: &Shape) -> Tensor {
    Tensor::from_storage(storage.wrap(), shape.clone(), BackpropOp::none(), false)
}

fn contiguous<const N: usize>(tensors: [&Tensor; N]) -> Result<[Tensor; N]> {
    try_map(tensors, Tensor::contiguous)
}

/// `map` of an array by a function that may fail.
pub(super) fn try_map<T, U, const N: usize>(items: [T; N], f: impl FnMut(T) -> Result<U>) -> Result<[U; N]> {
    let items = items.into_iter().map(f).collect::<Result<Vec<U>>>()?;
    items.try_into().map_err(|_| candle_core::Error::Msg(format!("an array of {N} changed its length")))
}

/// What a forward keeps for its backward, in a form of the device's own.
#[derive(Default)]
pub(super) struct ForwardState(Mutex<Option<Box<dyn Any + Send>>>);

impl ForwardState {
    pub(super) fn put<T: Any + Send>(&self, value: T) {
        if let Ok(mut kept) = self.0.lock() {
            *kept = Some(Box::new(value));
        }
    }

    /// What was put in last, once.
    pub(super) fn take<T: Any + Send>(&self) -> Option<T> {
        let kept = self.0.lock().ok().and_then(|mut kept| kept.take());
        kept.and_then(|kept| kept.downcast().ok()).map(|kept| *kept)
    }
}
