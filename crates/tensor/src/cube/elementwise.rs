//! Elementwise kernels: unary, binary with broadcasting, fill.
//!
//! Arithmetic is in f32 whatever the storage, by the formulas of the host twins. Kernels work on vectors of four elements;
//! buffers are padded to whole vectors, so lengths need not divide.

// The code that `#[cube]` makes has arguments `_a` and `_b` for the widths `A` and `B`.
#![allow(clippy::duplicate_underscore_argument)]

use cubecl::prelude::*;

use super::{
    CubeArg,
    glue::{check_len, storage_type, units},
    math,
};
use crate::{
    Result,
    ops::{Binary, BinaryOp, Unary, UnaryOp},
    shape::BroadcastPlan,
};

/// Elements of a vector.
const WIDTH: usize = 4;

/// [`UnaryOp`] without its parameters, which stay run-time values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Function {
    Affine,
    Exp,
    Ln,
    Sqrt,
    Rsqrt,
    Square,
    Recip,
    Tanh,
    Sigmoid,
    Softplus,
    Abs,
    Sign,
    Clamp,
    Inside,
}

impl Function {
    /// The function and its parameters.
    fn of(op: UnaryOp) -> (Self, f32, f32) {
        match op {
            UnaryOp::Affine { scale, shift } => (Self::Affine, scale as f32, shift as f32),
            UnaryOp::Exp => (Self::Exp, 0.0, 0.0),
            UnaryOp::Ln => (Self::Ln, 0.0, 0.0),
            UnaryOp::Sqrt => (Self::Sqrt, 0.0, 0.0),
            UnaryOp::Rsqrt => (Self::Rsqrt, 0.0, 0.0),
            UnaryOp::Square => (Self::Square, 0.0, 0.0),
            UnaryOp::Recip => (Self::Recip, 0.0, 0.0),
            UnaryOp::Tanh => (Self::Tanh, 0.0, 0.0),
            UnaryOp::Sigmoid => (Self::Sigmoid, 0.0, 0.0),
            UnaryOp::Softplus => (Self::Softplus, 0.0, 0.0),
            UnaryOp::Abs => (Self::Abs, 0.0, 0.0),
            UnaryOp::Sign => (Self::Sign, 0.0, 0.0),
            UnaryOp::Clamp { low, high } => (Self::Clamp, low as f32, high as f32),
            UnaryOp::Inside { low, high } => (Self::Inside, low as f32, high as f32),
        }
    }
}

/// `function(x)`; `a` and `b` are its parameters.
#[cube]
fn evaluate<N: Size>(x: Vector<f32, N>, a: f32, b: f32, #[comptime] function: Function) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::new(0.0);
    let one = Vector::<f32, N>::new(1.0);
    let a = Vector::<f32, N>::new(a);
    let b = Vector::<f32, N>::new(b);
    match function {
        Function::Affine => x * a + b,
        Function::Exp => math::exp::<N>(x),
        Function::Ln => math::ln::<N>(x),
        Function::Sqrt => x.sqrt(),
        Function::Rsqrt => one / x.sqrt(),
        Function::Square => x * x,
        Function::Recip => one / x,
        Function::Tanh => math::tanh::<N>(x),
        Function::Sigmoid => math::sigmoid::<N>(x),
        Function::Softplus => math::softplus::<N>(x),
        Function::Abs => x.abs(),
        Function::Sign => {
            let positive = select_many(x.greater_than(zero), one, zero);
            select_many(x.less_than(zero), zero - one, positive)
        }
        Function::Clamp => {
            let x = select_many(x.less_than(a), a, x);
            select_many(x.greater_than(b), b, x)
        }
        Function::Inside => {
            let above = select_many(x.greater_equal(a), one, zero);
            select_many(x.less_equal(b), above, zero)
        }
    }
}

#[cube(launch_unchecked)]
fn unary_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    a: f32,
    b: f32,
    vectors: usize,
    #[comptime] function: Function,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let v = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
        y[ABSOLUTE_POS] = Vector::cast_from(evaluate::<N>(v, a, b, function));
    }
}

/// Launches a [`Unary`].
pub fn unary<R: Runtime>(client: &ComputeClient<R>, op: &Unary, x: &CubeArg, y: &CubeArg) -> Result<()> {
    let (function, a, b) = Function::of(op.op);
    check_len("unary", y.len)?;
    let vectors = y.len.div_ceil(WIDTH);
    let (grid, cube) = units(vectors);
    let dtype = storage_type("unary", client, y.dtype)?;
    // SAFETY: each unit touches one vector below `vectors`, which the padded buffers hold.
    unsafe {
        unary_kernel::launch_unchecked::<R>(
            client,
            grid,
            cube,
            WIDTH,
            x.padded(WIDTH),
            y.padded(WIDTH),
            a,
            b,
            vectors,
            function,
            dtype,
        );
    }
    Ok(())
}

#[cube]
fn combine<N: Size>(a: Vector<f32, N>, b: Vector<f32, N>, #[comptime] op: BinaryOp) -> Vector<f32, N> {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Maximum => select_many(a.greater_than(b), a, b),
        BinaryOp::Greater => {
            let zero = Vector::<f32, N>::new(0.0);
            let equal = select_many(a.equal(b), Vector::<f32, N>::new(0.5), zero);
            select_many(a.greater_than(b), Vector::<f32, N>::new(1.0), equal)
        }
    }
}

/// One vector of the output a unit. `dims` are the output's axes but the first, the last in vectors; the strides, one
/// more, are in vectors of the operand, whose width is 1 where it repeats one element along the last axis.
#[cube(launch_unchecked)]
fn binary_kernel<F: Float, A: Size, B: Size, N: Size>(
    a: &Array<Vector<F, A>>,
    b: &Array<Vector<F, B>>,
    y: &mut Array<Vector<F, N>>,
    dims: &Sequence<usize>,
    a_strides: &Sequence<usize>,
    b_strides: &Sequence<usize>,
    vectors: usize,
    #[comptime] op: BinaryOp,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let mut rest = ABSOLUTE_POS;
        let mut at_a = 0usize;
        let mut at_b = 0usize;
        let inner_axes = dims.len().comptime();
        #[unroll]
        for i in 0..inner_axes {
            let axis = comptime!(inner_axes - i);
            let dim = *dims.index(comptime!(axis - 1));
            let k = rest % dim;
            rest /= dim;
            at_a += k * *a_strides.index(axis);
            at_b += k * *b_strides.index(axis);
        }
        at_a += rest * *a_strides.index(0usize);
        at_b += rest * *b_strides.index(0usize);
        let a = Vector::<f32, N>::cast_from(Vector::<f32, A>::cast_from(a[at_a]));
        let b = Vector::<f32, N>::cast_from(Vector::<f32, B>::cast_from(b[at_b]));
        y[ABSOLUTE_POS] = Vector::cast_from(combine::<N>(a, b, op));
    }
}

/// How a [`BroadcastPlan`] is walked in vectors.
#[derive(Debug, PartialEq, Eq)]
struct Walk {
    /// Elements of an output vector.
    width: usize,
    /// Elements of a vector of each operand.
    a_width: usize,
    b_width: usize,
    /// Output axes but the first, the last in vectors.
    dims: Vec<usize>,
    a_strides: Vec<usize>,
    b_strides: Vec<usize>,
    /// Output vectors.
    vectors: usize,
}

impl Walk {
    fn new(plan: &BroadcastPlan) -> Self {
        let last = plan.dims.len() - 1;
        let len: usize = plan.dims.iter().product();
        let outer_fit = |s: &[usize]| s[last] == 0 || s[..last].iter().all(|s| s % WIDTH == 0);
        // One axis may end within a vector: the padding takes the surplus.
        let fits = last == 0 || plan.dims[last].is_multiple_of(WIDTH);
        let width = if fits && outer_fit(&plan.a_strides) && outer_fit(&plan.b_strides) { WIDTH } else { 1 };
        let operand = |s: &[usize]| {
            let own = if s[last] == 0 { 1 } else { width };
            // The last stride is 0 or 1 element, which is 0 or 1 vector.
            let strides = (0..=last).map(|i| if i == last { s[i] } else { s[i] / own }).collect();
            (own, strides)
        };
        let ((a_width, a_strides), (b_width, b_strides)) = (operand(&plan.a_strides), operand(&plan.b_strides));
        let dims = (1..=last).map(|i| if i == last { plan.dims[i] / width } else { plan.dims[i] }).collect();
        Self { width, a_width, b_width, dims, a_strides, b_strides, vectors: len.div_ceil(width) }
    }
}

/// Launches a [`Binary`].
pub fn binary<R: Runtime>(client: &ComputeClient<R>, op: &Binary, a: &CubeArg, b: &CubeArg, y: &CubeArg) -> Result<()> {
    check_len("binary", y.len)?;
    let walk = Walk::new(&op.plan);
    let (grid, cube) = units(walk.vectors);
    let dtype = storage_type("binary", client, y.dtype)?;
    // SAFETY: the plan's strides stay inside operands that broadcast to the output, and buffers are padded to vectors.
    unsafe {
        binary_kernel::launch_unchecked::<R>(
            client,
            grid,
            cube,
            walk.a_width,
            walk.b_width,
            walk.width,
            a.padded(walk.a_width),
            b.padded(walk.b_width),
            y.padded(walk.width),
            walk.dims.into_iter().collect(),
            walk.a_strides.into_iter().collect(),
            walk.b_strides.into_iter().collect(),
            walk.vectors,
            op.op,
            dtype,
        );
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn fill_kernel<F: Float, N: Size>(
    y: &mut Array<Vector<F, N>>,
    value: f32,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        y[ABSOLUTE_POS] = Vector::cast_from(Vector::<f32, N>::new(value));
    }
}

/// Fills with one value.
pub fn fill<R: Runtime>(client: &ComputeClient<R>, value: f64, y: &CubeArg) -> Result<()> {
    check_len("fill", y.len)?;
    let vectors = y.len.div_ceil(WIDTH);
    let (grid, cube) = units(vectors);
    let dtype = storage_type("fill", client, y.dtype)?;
    // SAFETY: each unit touches one vector below `vectors`, which the padded buffer holds.
    unsafe {
        fill_kernel::launch_unchecked::<R>(client, grid, cube, WIDTH, y.padded(WIDTH), value as f32, vectors, dtype);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(out: &[usize], a: &[usize], b: &[usize]) -> Walk {
        Walk::new(&BroadcastPlan::new(out, a, b))
    }

    #[test]
    fn same_shapes_walk_one_axis_in_vectors() {
        let w = walk(&[2, 3], &[2, 3], &[2, 3]);
        assert_eq!((w.width, w.a_width, w.b_width, w.vectors), (4, 4, 4, 2));
        assert_eq!((w.dims, w.a_strides, w.b_strides), (vec![], vec![1], vec![1]));
    }

    #[test]
    fn repeated_elements_are_read_one_at_a_time() {
        let w = walk(&[3, 8], &[3, 8], &[3, 1]);
        assert_eq!((w.width, w.a_width, w.b_width, w.vectors), (4, 4, 1, 6));
        assert_eq!((w.dims, w.a_strides, w.b_strides), (vec![2], vec![2, 1], vec![1, 0]));
    }

    #[test]
    fn rows_that_are_no_whole_vectors_walk_by_elements() {
        let w = walk(&[3, 6], &[3, 6], &[6]);
        assert_eq!((w.width, w.a_width, w.b_width, w.vectors), (1, 1, 1, 18));
        assert_eq!((w.dims, w.a_strides, w.b_strides), (vec![6], vec![6, 1], vec![0, 1]));
    }
}
