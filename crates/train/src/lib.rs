#![doc = include_str!("../README.md")]

pub mod ablation;
pub mod adversary;
pub mod augment;
pub mod config;
mod encoder;
mod error;
mod foreign;
mod generator;
mod gradients;
mod init;
mod loss_scale;
pub mod losses;
mod memory;
mod optimizer;
mod project;
mod record;
mod run;
mod schedule;
mod state;
pub mod task;

pub use encoder::EncoderTrainer;
pub use error::{Result, TrainError};
pub use generator::GeneratorTrainer;
pub use gradients::Gradients;
pub use init::Init;
pub use optimizer::{Adam, AdamOptions, Algorithm};
pub use project::{ProjectOptions, Projection, project};
pub use run::{Event, Losses, Position, Reason, Run, StepData, Stop, Trainer, train};
pub use schedule::Schedule;
pub use task::{Samples, Task};
