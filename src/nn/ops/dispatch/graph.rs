//! Ops as nodes of candle's graph, with one, two or three inputs.

use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{Placed, backward, forward};

/// An op as candle's graph holds it.
pub(in crate::nn::ops) struct Fused<O>(pub(super) O);

/// A node of the graph over N inputs.
pub(in crate::nn::ops) trait Attach<const N: usize> {
    fn attach(self, inputs: [Tensor; N]) -> Result<Tensor>;
}

impl<O: Placed<1>> Attach<1> for Fused<O> {
    fn attach(self, [x]: [Tensor; 1]) -> Result<Tensor> {
        x.apply_op1(self)
    }
}

impl<O: Placed<2>> Attach<2> for Fused<O> {
    fn attach(self, [a, b]: [Tensor; 2]) -> Result<Tensor> {
        a.apply_op2(&b, self)
    }
}

impl<O: Placed<3>> Attach<3> for Fused<O> {
    fn attach(self, [a, b, c]: [Tensor; 3]) -> Result<Tensor> {
        a.apply_op3(&b, &c, self)
    }
}

impl<O: Placed<1>> CustomOp1 for Fused<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        forward(&self.0, Some(self.0.cpu()), [(x, layout)])
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        forward(&self.0, self.0.cuda(), [(x, layout)])
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let [x] = backward(&self.0, [x], result, gradient)?;
        Ok(x)
    }
}

impl<O: Placed<2>> CustomOp2 for Fused<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, a: &CpuStorage, al: &Layout, b: &CpuStorage, bl: &Layout) -> Result<(CpuStorage, Shape)> {
        forward(&self.0, Some(self.0.cpu()), [(a, al), (b, bl)])
    }

    fn cuda_fwd(&self, a: &CudaStorage, al: &Layout, b: &CudaStorage, bl: &Layout) -> Result<(CudaStorage, Shape)> {
        forward(&self.0, self.0.cuda(), [(a, al), (b, bl)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(backward(&self.0, [a, b], result, gradient)?.into())
    }
}

impl<O: Placed<3>> CustomOp3 for Fused<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
        c: &CpuStorage,
        cl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward(&self.0, Some(self.0.cpu()), [(a, al), (b, bl), (c, cl)])
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        al: &Layout,
        b: &CudaStorage,
        bl: &Layout,
        c: &CudaStorage,
        cl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        forward(&self.0, self.0.cuda(), [(a, al), (b, bl), (c, cl)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok(backward(&self.0, [a, b, c], result, gradient)?.into())
    }
}
