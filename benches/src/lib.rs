//! swinstyle-benches.
