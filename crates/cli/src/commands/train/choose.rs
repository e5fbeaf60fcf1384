//! Which configuration a training has: a file, a preset, the run's own, or one that is chosen by device and size for a folder of images.

use anyhow::{Context as _, Result};
use swinstyle_models::Model;
use swinstyle_tensor::Device;
use swinstyle_train::config::{Kind, Preset, Source};

use super::Common;
use crate::output::{Output, Usage};

/// The configuration that the arguments name; nothing where one is to be chosen for `--data`.
pub(super) fn given(common: &Common, kind: Kind) -> Result<Option<Source>> {
    let size = if kind == Kind::Generator { "model.size" } else { "model.image_size" };
    let overrides = overrides(common, size);
    if let Some(file) = &common.config {
        return Ok(Some(Source::read(file, &overrides)?));
    }
    if let Some(name) = &common.preset {
        return Ok(Some(Preset::find(name, kind)?.source(overrides)));
    }
    if common.resume {
        return of_run(common, overrides).map(Some);
    }
    match common.data {
        Some(_) => Ok(None),
        None => {
            let text = "say what to train on: --data DIR (a folder of images), --preset NAME (see `swinstyle config list`) or --config FILE";
            Err(Usage(text.into()).into())
        }
    }
}

/// The configuration that a run folder holds.
fn of_run(common: &Common, overrides: Vec<String>) -> Result<Source> {
    let path = common.out.join("config.json");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{} cannot be read; --config, --preset or --data say what the run is", path.display())
    })?;
    let bad = || format!("{} is no configuration", path.display());
    let config: toml::Table = serde_json::from_str(&text).with_context(bad)?;
    let text = toml::to_string(&config).with_context(bad)?;
    Ok(Source { shown: path.display().to_string(), text, overrides })
}

/// What `--data` and `--size` say, then `--set`.
fn overrides(common: &Common, size: &str) -> Vec<String> {
    let mut overrides = Vec::new();
    if let Some(folder) = &common.data {
        // As TOML's string: a folder may be called 2024, or have spaces.
        let path = toml::Value::String(folder.to_string_lossy().into_owned());
        overrides.extend(["data.source=folder".to_string(), format!("data.path={path}")]);
    }
    overrides.extend(common.size.map(|pixels| format!("{size}={pixels}")));
    overrides.extend(common.overrides.iter().cloned());
    overrides
}

/// The configuration of a generator.
pub(super) fn generator(common: &Common, device: Device, output: Output) -> Result<Source> {
    if let Some(source) = given(common, Kind::Generator)? {
        return Ok(source);
    }
    let size = common.size.unwrap_or(64);
    let name = match size {
        _ if device == Device::Cpu => "avatar64-cpu",
        0..=64 => "avatar64",
        65..=256 => "face256",
        _ => "face1024",
    };
    let preset = Preset::find(name, Kind::Generator)?;
    chosen(preset, device, output);
    let mut all = vec![format!("model.size={size}")];
    all.extend(overrides(common, "model.size"));
    Ok(preset.source(all))
}

/// The configuration of an encoder against the generator of `model`.
pub(super) fn encoder(common: &Common, model: &Model, device: Device, output: Output) -> Result<Source> {
    let g = &model.generator.config;
    let (name, image_size, patch) = match g.size {
        _ if device == Device::Cpu => ("avatar64-cpu", 64, 2),
        0..=64 => ("avatar64", 64, 2),
        65..=256 => ("face256", 256, 4),
        _ => ("face1024", 256, 4),
    };
    let preset = Preset::find(name, Kind::Encoder)?;
    chosen(preset, device, output);
    // The encoder needs 16 patches an edge at least.
    let image_size = common.size.unwrap_or(image_size.min(g.size).max(16));
    let patch = patch.min(image_size / 16).max(1);
    let mut all = vec![
        format!("model.generator_size={}", g.size),
        format!("model.style_dim={}", g.style_dim),
        format!("model.image_size={image_size}"),
        format!("model.backbone.patch={patch}"),
    ];
    if model.discriminator.is_none() {
        output.note("the generator's file holds no discriminator: the encoder learns without loss.perceptual");
        all.push("loss.perceptual=0.0".into());
    }
    all.extend(overrides(common, "model.image_size"));
    Ok(preset.source(all))
}

fn chosen(preset: &Preset, device: Device, output: Output) {
    let why = if device == Device::Cpu { "small enough for a cpu" } else { "by the size of the images" };
    output.note(format_args!("preset {} ({why}); `swinstyle config show {}` prints it", preset.name, preset.name));
}
