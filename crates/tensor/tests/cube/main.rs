//! Every operation on wgpu against the cpu, and what happens where a device is absent.

mod devices;
mod elementwise;
mod layout;
mod matmul;
mod reduce;
mod support;
