//! Whole-program tests, one binary: the golden fixtures on every backend, and the command line on good and bad input.

mod ablation;
mod bench;
mod data;
mod editing;
mod fixtures;
mod golden;
mod images;
mod profiling;
mod support;
mod tasks;
mod training;
mod tuning;
mod usage;
