//! The operations on the cpu: gradients, the tape, and bits that stay the same.

mod bits;
mod gradients;
mod tape;
