//! swinstyle-train.
