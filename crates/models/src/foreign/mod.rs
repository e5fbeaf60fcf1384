//! Networks whose weights the user brings, frozen: LPIPS and ArcFace, each read from files in the layout of its publishers.

mod arcface;
mod files;
mod lpips;

pub use arcface::ArcFace;
pub use lpips::Lpips;
