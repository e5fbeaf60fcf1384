//! `swinstyle convert`: any model that can be read, to this program's file.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use swinstyle_files::{is_there, same_file};
use swinstyle_models::Model;
use swinstyle_tensor::Device;
use swinstyle_weights::FloatDtype;

use super::Context;
use crate::{
    batch::Shown,
    output::{Status, Usage},
    text,
};

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
    /// The file to write (.safetensors); never the input.
    output: PathBuf,
    /// Type in which the weights are stored; they are computed with in f32.
    #[arg(long, value_enum, default_value = "f16")]
    dtype: Floats,
    /// Write the encoder alone, for use with the very generator that is in the input.
    #[arg(long)]
    encoder_only: bool,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(context: &Context, args: Convert) -> Result<Status> {
    check_output(&args)?;
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
    context.output.line(format_args!("{} ({})", Shown(&args.output), text::bytes(bytes)))?;
    context.output.document(&json!({ "input": Shown(&args.input), "output": Shown(&args.output), "bytes": bytes }))?;
    Ok(Status::Done)
}

/// What is known before the model is read. Errors: another format's name, the input itself, a file that is there, what is no file.
fn check_output(args: &Convert) -> Result<()> {
    let (input, output) = (&args.input, &args.output);
    if let Some(ending) = output.extension().filter(|e| !e.eq_ignore_ascii_case("safetensors")) {
        let (ending, better) = (ending.to_string_lossy(), output.with_extension("safetensors"));
        let detail =
            format!("{}: no .{ending} file is written but safetensors; name it {}", Shown(output), Shown(&better));
        return Err(Usage(detail).into());
    }
    if same_file(input, output) {
        bail!("{}: it is the input, {}, which is not overwritten; name another file", Shown(output), Shown(input));
    }
    match is_there(output) {
        Err(error) => bail!("{}: cannot write: {error}", Shown(output)),
        Ok(true) if !args.force => bail!("{}: it exists; --force replaces it", Shown(output)),
        Ok(_) => Ok(()),
    }
}
