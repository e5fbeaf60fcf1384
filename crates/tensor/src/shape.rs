//! Shape arithmetic: broadcasting and strides.

use crate::{Result, TensorError};

/// Shape to which `a` and `b` broadcast (NumPy's rule).
pub fn broadcast(op: &'static str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(TensorError::shape(op, format!("shapes {a:?} and {b:?} do not broadcast"))),
        })
        .collect()
}

/// Row-major strides in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut s = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        s[i - 1] = s[i] * shape[i];
    }
    s
}

/// A broadcast of two operands with neighbouring axes merged where both walk them alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastPlan {
    /// Merged output axes, outermost first; never empty.
    pub dims: Vec<usize>,
    /// Stride of the first operand along each, 0 where it is repeated.
    pub a_strides: Vec<usize>,
    /// Stride of the second operand along each, 0 where it is repeated.
    pub b_strides: Vec<usize>,
}

impl BroadcastPlan {
    /// Plans `out` from operands of shapes `a` and `b`, both of which broadcast to it.
    pub fn new(out: &[usize], a: &[usize], b: &[usize]) -> Self {
        let (sa, sb) = (broadcast_strides(out, a), broadcast_strides(out, b));
        let mut plan = Self { dims: Vec::new(), a_strides: Vec::new(), b_strides: Vec::new() };
        for i in 0..out.len() {
            let d = out[i];
            if d == 1 {
                continue;
            }
            if let Some(last) = plan.dims.len().checked_sub(1)
                && plan.a_strides[last] == sa[i] * d
                && plan.b_strides[last] == sb[i] * d
            {
                plan.dims[last] *= d;
                plan.a_strides[last] = sa[i];
                plan.b_strides[last] = sb[i];
                continue;
            }
            plan.dims.push(d);
            plan.a_strides.push(sa[i]);
            plan.b_strides.push(sb[i]);
        }
        if plan.dims.is_empty() {
            plan = Self { dims: vec![1], a_strides: vec![0], b_strides: vec![0] };
        }
        plan
    }
}

fn broadcast_strides(out: &[usize], s: &[usize]) -> Vec<usize> {
    let own = strides(s);
    let lead = out.len() - s.len();
    (0..out.len()).map(|i| if i < lead || s[i - lead] == 1 { 0 } else { own[i - lead] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_numpy() {
        assert_eq!(broadcast("t", &[2, 1, 3], &[4, 1]).unwrap(), [2, 4, 3]);
        assert_eq!(broadcast("t", &[], &[5]).unwrap(), [5]);
        assert!(broadcast("t", &[2], &[3]).is_err());
    }

    #[test]
    fn plans_merge_axes_that_both_operands_walk_alike() {
        let p = BroadcastPlan::new(&[2, 3, 4, 5], &[2, 3, 4, 5], &[5]);
        assert_eq!((p.dims, p.a_strides, p.b_strides), (vec![24, 5], vec![5, 1], vec![0, 1]));
        let p = BroadcastPlan::new(&[2, 3, 4, 5], &[2, 3, 4, 5], &[2, 1, 1, 5]);
        assert_eq!((p.dims, p.a_strides, p.b_strides), (vec![2, 12, 5], vec![60, 5, 1], vec![5, 0, 1]));
        let p = BroadcastPlan::new(&[7], &[7], &[7]);
        assert_eq!((p.dims, p.a_strides, p.b_strides), (vec![7], vec![1], vec![1]));
        let p = BroadcastPlan::new(&[3, 4], &[3, 4], &[1]);
        assert_eq!((p.dims, p.a_strides, p.b_strides), (vec![12], vec![1], vec![0]));
    }
}
