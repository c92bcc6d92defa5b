//! Ops that change tensors where they lie (the optimizer's) or read one number of a tensor. They have no gradient; which
//! device has kernels of them is said by the table in `placement.rs`, as for the others.

use std::cell::RefCell;

use candle_core::{CpuStorage, CudaStorage, Device, InplaceOp1, Layout, Result, Tensor, bail};

use super::dispatch::{Operand, Stored, all_on, try_map};

/// A contiguous tensor that a kernel may change.
pub(super) struct Edited<'a, S> {
    pub storage: &'a mut S,
    /// Where its values begin and end in the storage.
    pub range: (usize, usize),
}

/// A kernel that changes M tensors by what N others hold.
pub(super) trait Edits<S, const M: usize, const N: usize> {
    fn edit(&self, edited: [Edited<S>; M], read: [Operand<S>; N]) -> Result<()>;
}

/// Which devices have kernels of an op in place. Implemented by the table in `placement.rs`.
pub(super) trait InPlace<const M: usize, const N: usize> {
    const NAME: &'static str;

    fn cpu(&self) -> &dyn Edits<CpuStorage, M, N>;

    fn cuda(&self) -> Option<&dyn Edits<CudaStorage, M, N>> {
        None
    }
}

/// Runs the kernel of the device that the tensors are on; false, and nothing is changed, where there is none.
///
/// No two of the edited tensors may share storage. Errors if an edited one is not contiguous.
pub(super) fn edit<O: InPlace<M, N>, const M: usize, const N: usize>(
    op: &O,
    edited: [&Tensor; M],
    read: [&Tensor; N],
) -> Result<bool> {
    if !all_on(&[edited.as_slice(), read.as_slice()].concat(), op.cuda().is_some()) {
        return Ok(false);
    }
    match (edited[0].device(), op.cuda()) {
        (Device::Cpu, _) => run(O::NAME, op.cpu(), edited, read)?,
        (_, Some(kernel)) => run(O::NAME, kernel, edited, read)?,
        (_, None) => return Ok(false),
    }
    Ok(true)
}

fn run<S: Editable, const M: usize, const N: usize>(
    op: &'static str,
    kernel: &dyn Edits<S, M, N>,
    edited: [&Tensor; M],
    read: [&Tensor; N],
) -> Result<()> {
    let read = try_map(read, |tensor| tensor.detach().contiguous())?;
    let held = read.each_ref().map(Tensor::storage_and_layout);
    let mut operands = Some(try_map(held.each_ref(), |(storage, layout)| Operand::new(op, storage, layout))?);
    hold(op, &edited, Vec::with_capacity(M), &mut |edited| match (edited.try_into(), operands.take()) {
        (Ok(edited), Some(operands)) => kernel.edit(edited, operands),
        _ => bail!("{op}: its kernel ran twice or got another number of tensors than {M}"),
    })
}

/// Takes hold of one tensor's storage after the other, then calls `then` with all of them.
fn hold<S: Editable>(
    op: &'static str,
    tensors: &[&Tensor],
    held: Vec<Edited<S>>,
    then: &mut dyn FnMut(Vec<Edited<S>>) -> Result<()>,
) -> Result<()> {
    let Some((first, rest)) = tensors.split_first() else { return then(held) };
    let next = |storage: Any, range: (usize, usize)| {
        let Some(storage) = S::of_mut(storage) else { bail!("{op}: its tensors lie on different devices") };
        let mut held: Vec<Edited<S>> = held;
        held.push(Edited { storage, range });
        hold(op, rest, held, then)
    };
    first.inplace_op1(&Hold(op, RefCell::new(Some(next))))
}

/// The storage of some device.
enum Any<'a> {
    Cpu(&'a mut CpuStorage),
    Cuda(&'a mut CudaStorage),
}

trait Editable: Stored {
    fn of_mut(storage: Any<'_>) -> Option<&mut Self>;
}

impl Editable for CpuStorage {
    fn of_mut(storage: Any<'_>) -> Option<&mut Self> {
        if let Any::Cpu(storage) = storage { Some(storage) } else { None }
    }
}

impl Editable for CudaStorage {
    fn of_mut(storage: Any<'_>) -> Option<&mut Self> {
        if let Any::Cuda(storage) = storage { Some(storage) } else { None }
    }
}

/// The way candle hands out a storage for writing.
struct Hold<F>(&'static str, RefCell<Option<F>>);

impl<F: FnOnce(Any, (usize, usize)) -> Result<()>> Hold<F> {
    fn call(&self, storage: Any, layout: &Layout) -> Result<()> {
        let Some(range) = layout.contiguous_offsets() else {
            bail!("{}: cannot write in place into a tensor with strides {:?}", self.0, layout.stride());
        };
        match self.1.take() {
            Some(next) => next(storage, range),
            None => bail!("{}: the edit already ran", self.0),
        }
    }
}

impl<F: FnOnce(Any, (usize, usize)) -> Result<()>> InplaceOp1 for Hold<F> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.call(Any::Cpu(storage), layout)
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        self.call(Any::Cuda(storage), layout)
    }
}

/// A kernel that reads one number of a tensor.
pub(super) trait Measures<S> {
    fn measure(&self, x: Operand<S>) -> Result<f64>;
}

/// Which devices have kernels of a measure. Implemented by the table in `placement.rs`.
pub(super) trait Measure {
    const NAME: &'static str;

    fn cpu(&self) -> &dyn Measures<CpuStorage>;

    fn cuda(&self) -> Option<&dyn Measures<CudaStorage>> {
        None
    }
}

/// The number, or nothing where the device of `x` has no kernel for it.
pub(super) fn measure<O: Measure>(op: &O, x: &Tensor) -> Result<Option<f64>> {
    let x = x.detach().contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match (x.device(), op.cuda()) {
        (Device::Cpu, _) => op.cpu().measure(Operand::new(O::NAME, &storage, layout)?).map(Some),
        (Device::Cuda(_), Some(kernel)) => kernel.measure(Operand::new(O::NAME, &storage, layout)?).map(Some),
        _ => Ok(None),
    }
}
