//! swinstyle-kit.
