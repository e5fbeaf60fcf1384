//! swinstyle-modulated-conv2d.
