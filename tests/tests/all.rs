//! Whole-program tests, one binary: the golden fixtures on every backend, and the command line on good and bad input.

mod ablation;
mod alone;
mod batch;
mod bench;
mod configuring;
mod data;
mod editing;
mod fixtures;
mod flags;
mod golden;
mod images;
mod inputs;
mod paths;
mod profiling;
mod rounding;
mod support;
mod tasks;
mod training;
mod tuning;
mod usage;
mod writing;
