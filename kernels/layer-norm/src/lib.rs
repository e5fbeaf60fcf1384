//! swinstyle-layer-norm.
