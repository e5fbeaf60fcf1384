//! Whole trainings on a small scale.

mod runs;
mod small;
mod starting;
mod tasks;
