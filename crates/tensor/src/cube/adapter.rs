//! What an adapter of wgpu says of itself.

/// An adapter that wgpu found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// Name and version of its driver.
    pub driver: String,
    /// "Vulkan" or "Metal".
    pub backend: String,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "cpu" or "other".
    pub kind: &'static str,
    /// Whether it runs on the cpu (lavapipe, SwiftShader).
    pub software: bool,
}
