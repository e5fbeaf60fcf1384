//! What a training step and an inversion ask for once they have run for a while: no fresh memory, and no wait for the device but those
//! that are meant. A program of its own: fresh memory is counted for the whole process.

#[allow(dead_code)]
#[path = "it/small.rs"]
mod small;

use std::sync::{Mutex, MutexGuard, PoisonError};

use swinstyle_models::Model;
use swinstyle_modulated_conv2d::{ConvGeometry, conv2d_weight_grad, scaled_conv2d};
use swinstyle_tensor::{
    Device, Tensor,
    counters::{Counts, region, region_on},
    rng::Philox,
};
use swinstyle_train::{EncoderTrainer, GeneratorTrainer, Position, Samples, StepData, Trainer};
use swinstyle_weights::CheckpointHeader;

use small::{IMAGE, PORTRAIT, encoder, generator};

/// One test at a time: the pools of memory are the process's.
static ALONE: Mutex<()> = Mutex::new(());

/// Networks whose tensors are larger than the pool's smallest, and still quick.
const LARGER: [&str; 7] = [
    "model.size=32",
    "model.style_dim=64",
    "model.channel_base=512",
    "model.channel_max=64",
    "model.discriminator_base=512",
    "model.discriminator_max=64",
    // Whether a step mixes styles is drawn, and with it which sizes it needs.
    "loss.style_mixing=0.0",
];

fn images(n: usize, size: usize, device: Device) -> Tensor {
    Philox::new(11, 0).normal(&[n, size, size, 3], device).unwrap()
}

/// The counts of each of `steps` training steps after `before` unobserved ones.
fn steps(trainer: &mut dyn Trainer, size: usize, device: Device, before: u64, steps: u64) -> Vec<Counts> {
    let data = StepData { images: images(4, size, device), labels: Vec::new() };
    let mut counts = Vec::new();
    for step in 0..before + steps {
        let (losses, c) =
            region_on(device, || trainer.step(Position { step, images: 4 * step }, &data).unwrap()).unwrap();
        assert!(!losses.is_empty());
        if step >= before {
            counts.push(c);
        }
    }
    counts
}

/// A generator in training, with both regularisations every two and three steps.
fn new_generator(device: Device, more: &[&str]) -> GeneratorTrainer {
    GeneratorTrainer::new(generator(4000, more), device).unwrap()
}

/// An encoder in training against a fresh generator.
fn new_encoder(device: Device, of_generator: &[&str], more: &[&str]) -> EncoderTrainer {
    let config = encoder(4000, more);
    let data = config.task.open(&config.data, config.model.image_size).unwrap();
    let samples = Samples::take(&data, &config.task).unwrap();
    EncoderTrainer::new(config, fresh(device, of_generator), samples, device).unwrap()
}

/// A generator that nobody has trained.
fn fresh(device: Device, more: &[&str]) -> Model {
    let dir = tempfile::tempdir().unwrap();
    let trainer = new_generator(Device::Cpu, more);
    let file = trainer.export(dir.path(), &trainer.header(Position::default()).unwrap()).unwrap();
    Model::load(file, device).unwrap()
}

/// Asserts that steps took no fresh memory, never waited, and read back what is meant in each.
#[track_caller]
fn assert_steady(counts: &[Counts], downloads: &[u64], what: &str) {
    for (i, c) in counts.iter().enumerate() {
        assert!(c.launches > 0);
        assert_eq!((c.fresh, c.fresh_bytes, c.waits), (0, 0, 0), "{what}, step {i}: {c:?}");
        assert_eq!(c.downloads, downloads[i % downloads.len()], "{what}, step {i}: {c:?}");
    }
}

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sizes of an encoder whose tensors are larger than the pool's smallest.
const LARGER_ENCODER: [&str; 6] = [
    "model.image_size=32",
    "model.generator_size=32",
    "model.style_dim=64",
    "model.backbone.dims=[32,32,32]",
    "model.map2style.width=32",
    // Which paths are dropped is drawn, and with it which sizes a step needs.
    "model.backbone.stochastic_depth=0.0",
];

#[test]
fn a_steady_generator_step_takes_no_fresh_memory_and_never_waits() {
    let _alone = alone();
    // Twice the period of both regularisations, then once more.
    let counts = steps(&mut new_generator(Device::Cpu, &LARGER), 32, Device::Cpu, 12, 6);
    assert!(counts[0].allocated > 1 << 20, "{:?}", counts[0]);
    assert_steady(&counts, &[0], "generator");
}

#[test]
fn augmentation_reads_back_once_an_interval_and_loss_scaling_once_a_network_and_step() {
    let _alone = alone();
    let augment = ["augment.kind=bgc", "augment.fixed_p=0.0", "augment.ada_interval=3", "run.accumulate=2"];
    let counts = steps(&mut new_generator(Device::Cpu, &[&LARGER[..], &augment].concat()), 32, Device::Cpu, 12, 6);
    let downloads: Vec<u64> = counts.iter().map(|c| c.downloads).collect();
    assert_eq!(downloads, [0, 0, 1, 0, 0, 1]);
    let counts =
        steps(&mut new_generator(Device::Cpu, &[&LARGER[..], &["run.precision=f16"]].concat()), 32, Device::Cpu, 12, 6);
    assert_steady(&counts, &[2], "generator in f16");
}

#[test]
fn a_steady_encoder_step_takes_no_fresh_memory_and_never_waits() {
    let _alone = alone();
    for (more, downloads) in [(&["optimizer.clip_norm=1.0"][..], 0), (&["run.precision=f16"], 1)] {
        let mut trainer = new_encoder(Device::Cpu, &LARGER, &[&LARGER_ENCODER[..], more].concat());
        let counts = steps(&mut trainer, 32, Device::Cpu, 6, 4);
        assert!(counts[0].allocated > 1 << 20, "{:?}", counts[0]);
        assert_steady(&counts, &[downloads], &format!("encoder with {more:?}"));
    }
}

#[test]
fn a_convolution_takes_the_same_memory_however_its_threads_meet() {
    let _alone = alone();
    let mut rng = Philox::new(5, 0);
    let mut cases = Vec::new();
    // Winograd's form, the direct one in one pass and in several over a band, doubling, halving, and of few channels.
    let same = |size| ConvGeometry::same([3, 3], [size, size]);
    for (n, size, inputs, outputs, geometry) in [
        (2, 33, 48, 70, same(33)),
        (2, 9, 40, 56, same(9)),
        (1, 64, 16, 16, same(64)),
        (2, 16, 64, 96, ConvGeometry::transposed([3, 3], [16, 16], 2).unwrap()),
        (3, 33, 24, 40, ConvGeometry::convolution([3, 3], [33, 33], 2, 0).unwrap()),
        (5, 40, 3, 20, same(40)),
    ] {
        let [height, width] = geometry.output;
        let x = rng.normal(&[n, size, size, inputs], Device::Cpu).unwrap();
        let weight = rng.normal(&[3, 3, inputs, outputs], Device::Cpu).unwrap();
        let gradient = rng.normal(&[n, height, width, outputs], Device::Cpu).unwrap();
        cases.push((x, weight, gradient, geometry));
    }
    for pass in 0..40 {
        for (x, weight, gradient, geometry) in &cases {
            let ((), c) = region(|| {
                drop(scaled_conv2d(x, weight, None, None, geometry).unwrap());
                drop(conv2d_weight_grad(x, gradient, None, None, geometry).unwrap());
            });
            assert!(pass == 0 || c.fresh == 0, "{geometry:?}, pass {pass}: {c:?}");
        }
    }
}

#[test]
fn a_steady_inversion_takes_no_fresh_memory_and_waits_for_its_download_alone() {
    let _alone = alone();
    let mut model = new_encoder(Device::Cpu, &LARGER, &LARGER_ENCODER).model(&CheckpointHeader::default());
    for device in [Device::Cpu, Device::Wgpu(0)] {
        if device != Device::Cpu {
            // Few and small kernels: the software adapter compiles each for seconds.
            model = new_encoder(device, &[], &[]).model(&CheckpointHeader::default());
        }
        let size = model.encoder.as_ref().unwrap().0.config.image_size;
        let images = images(2, size, device);
        for pass in 0..5 {
            let work = || model.invert(&images).unwrap().images.to_vec().unwrap();
            let (pixels, c) = region_on(device, work).unwrap();
            assert!(pixels.iter().all(|v| v.is_finite()) && c.launches > 0);
            if pass >= 3 {
                let asked = (c.fresh_bytes, c.waits, c.downloads, c.downloaded);
                assert_eq!(asked, (0, 0, 1, 4 * pixels.len() as u64), "{device}, pass {pass}: {c:?}");
            }
        }
    }
}

#[test]
fn steady_training_steps_on_wgpu_reserve_nothing_and_never_wait() {
    let _alone = alone();
    let device = Device::Wgpu(0);
    let counts = steps(&mut new_generator(device, &["loss.style_mixing=0.0"]), IMAGE, device, 12, 6);
    assert_steady(&counts, &[0], "generator");
    let mut trainer = new_encoder(device, &[], &["model.backbone.stochastic_depth=0.0"]);
    assert_steady(&steps(&mut trainer, PORTRAIT, device, 6, 3), &[0], "encoder");
}
