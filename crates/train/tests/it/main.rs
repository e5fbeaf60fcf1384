//! Whole trainings on a small scale.

mod damaged;
mod images;
mod keys;
mod runs;
mod small;
mod starting;
mod tasks;
