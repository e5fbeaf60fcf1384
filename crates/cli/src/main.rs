//! swinstyle.
fn main() {}
