//! Trains a small GAN on drawn portraits for a minute: `cargo run --release -p swinstyle-train --example tiny_gan`.

use std::{path::PathBuf, time::Duration};

use swinstyle_tensor::Device;
use swinstyle_train::{
    Event, GeneratorTrainer, Run, Stop,
    config::{GeneratorTraining, parse},
    train,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A preset made smaller by overrides, as `swinstyle train generator --set` does.
    let preset = include_str!("../../../configs/avatar64-cpu-generator.toml");
    let overrides = ["run.images=20_000", "run.log_steps=50", "model.size=16", "data.count=2_000"].map(String::from);
    let config: GeneratorTraining = parse(preset, "avatar64-cpu-generator.toml", &overrides)?;

    let device = Device::from_env()?;
    let data = config.data.open(config.model.size)?;
    let mut trainer = GeneratorTrainer::new(config, device)?;
    let run = Run { folder: PathBuf::from("runs/tiny-gan"), resume: false, data_changed: false, device };
    let stop = Stop { time_limit: Some(Duration::from_secs(60)), ..Stop::default() };

    train(&mut trainer, data, &run, &stop, &mut |event| match event {
        Event::Metrics { images, images_per_second, losses, .. } => {
            let losses: Vec<String> = losses.iter().map(|(name, v)| format!("{name} {v:.3}")).collect();
            println!("{images} images, {images_per_second:.0} images/s: {}", losses.join(", "));
        }
        Event::Wrote { what, path } => println!("{what}: {}", path.display()),
        Event::Stopped { images, reason, .. } => println!("stopped after {images} images: {reason}"),
        _ => {}
    })?;
    Ok(())
}
