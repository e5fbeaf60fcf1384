//! What the attention kernels on matrix units share: planes multiply fragments of 16×16×16, in f16 or bf16 with f32 sums.
//!
//! [`attend`] is the forward pass of one head of one set of tokens; [`gather_queries`] and [`gather_tokens`] are its gradients. What a room
//! alone knows, where its rows lie and what is added to its logits, is a [`Head`].
//!
//! Queries, keys and values stay in shared memory as they are stored. Logits and softmax are f32; what they become is rounded to the
//! type where it is a factor of the next product.

// `#[cube]` generates public items beside each function that cannot carry documentation.
#![allow(missing_docs)]

mod backward;
mod form;
mod forward;
mod fragments;
mod head;
mod tile;

pub use backward::{
    GradientPlace, Memory, PartialSums, gather_queries, gather_tokens, gradient_place, kept, query_gradient, write_kept,
};
pub use form::{Form, Shape, Shaped};
pub use forward::attend;
pub use fragments::zeros;
pub use head::{Extent, Head, HeadExpand};
pub use swinstyle_tensor::cube::fragments::{EDGE, PLANE, Product, WIDTH};
pub use tile::{GradientTile, MatrixTile};

/// Logit of what is not there.
pub const ABSENT: f32 = -1e30;
