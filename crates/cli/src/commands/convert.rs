//! `swinstyle convert`: any model that can be read, to this program's file.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;
use swinstyle_models::Model;
use swinstyle_tensor::Device;
use swinstyle_weights::FloatDtype;

use super::Context;
use crate::output::Status;

/// How the numbers are stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Floats {
    F32,
    F16,
    Bf16,
}

#[derive(Debug, Args)]
pub(super) struct Convert {
    /// A model file, or a StyleGAN2 checkpoint of the common PyTorch port.
    input: PathBuf,
    /// The file to write (.safetensors).
    output: PathBuf,
    /// Type in which the weights are stored; they are computed with in f32.
    #[arg(long, value_enum, default_value = "f16")]
    dtype: Floats,
    /// Write the encoder alone, for use with the very generator that is in the input.
    #[arg(long)]
    encoder_only: bool,
}

pub(super) fn run(context: &Context, args: Convert) -> Result<Status> {
    let model = Model::load(&args.input, Device::Cpu)?;
    let floats = match args.dtype {
        Floats::F32 => FloatDtype::F32,
        Floats::F16 => FloatDtype::F16,
        Floats::Bf16 => FloatDtype::Bf16,
    };
    match args.encoder_only {
        true => model.save_encoder(&args.output, floats)?,
        false => model.save(&args.output, floats)?,
    }
    let bytes = std::fs::metadata(&args.output).map(|m| m.len()).unwrap_or(0);
    context.output.line(format_args!("{} ({:.1} MiB)", args.output.display(), bytes as f64 / (1 << 20) as f64))?;
    context.output.document(&json!({ "input": args.input, "output": args.output, "bytes": bytes }))?;
    Ok(Status::Done)
}
