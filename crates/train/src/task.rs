//! What an encoder is trained to read: the portrait itself, its label map, or a small version of it [paper].

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use swinstyle_data::{Dataset, ImageFolder, Label, LabelMap, Picture};
use swinstyle_models::{Model, styleformer::StyleformerConfig};
use swinstyle_tensor::{Device, Tensor, no_grad, rng::Philox};

use crate::{
    Result, StepData, TrainError,
    config::{DataConfig, bad_key},
};

/// Key of the task in a model file's configuration; a file without it inverts images.
pub const KEY: &str = "task";
/// Sets the random numbers of the inputs apart from those of the training step.
const STREAM: u64 = 0x7461_736b;

/// `[task]` of an encoder's configuration, and of a trained model's header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Task {
    // With braces, so that a key that belongs to another task is an error.
    /// The image in, the image out.
    Inversion {},
    /// The one-hot label map in, `[N, H, W, labels]` of 0 and 1, the portrait out.
    Segmentation {
        /// The folder of the label maps; portraits and data sets that `swinstyle data avatars --masks` wrote have their own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        maps: Option<PathBuf>,
        /// The labels; those of the data where they have their own.
        #[serde(default)]
        labels: Vec<Label>,
    },
    /// The image, made smaller by a factor and enlarged again, in; the image out.
    SuperResolution {
        /// Least factor, from 1 on.
        min_factor: f64,
        /// Greatest factor, up to 32. Each image of each step draws its own, uniformly in its logarithm [ours].
        max_factor: f64,
    },
}

impl Default for Task {
    fn default() -> Self {
        Self::Inversion {}
    }
}

impl Task {
    /// Whether it is the plain inversion.
    pub fn is_inversion(&self) -> bool {
        *self == Self::Inversion {}
    }

    /// Its name, as in configurations.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Inversion {} => "inversion",
            Self::Segmentation { .. } => "segmentation",
            Self::SuperResolution { .. } => "super-resolution",
        }
    }

    /// What the encoder of a model reads. Errors: a header whose task this program does not know.
    pub fn of(model: &Model) -> Result<Self> {
        let bad = |e: serde_json::Error| TrainError::Config { path: KEY.into(), detail: format!("of the model: {e}") };
        match model.header.config.get(KEY) {
            Some(value) => serde_json::from_value(value.clone()).map_err(bad),
            None => Ok(Self::Inversion {}),
        }
    }

    /// The form in which a model's header holds it.
    pub(crate) fn record(&self) -> Result<Value> {
        let mut task = self.clone();
        if let Self::Segmentation { maps, .. } = &mut task {
            // Where the maps lay is nothing to the model's users.
            *maps = None;
        }
        crate::record::to_json(&task)
    }

    /// Opens the training data at `size` pixels, with label maps where the task reads them.
    ///
    /// Errors: those of the data, labels that are not the data's.
    pub fn open(&self, data: &DataConfig, size: usize) -> Result<Arc<Dataset>> {
        let Self::Segmentation { maps, labels } = self else { return data.open(size) };
        match data {
            DataConfig::Folder { path, memory_mib, max_broken, .. } => {
                let images = ImageFolder::open(path, size, memory_mib.saturating_mul(1 << 20))?;
                images.check_share(*max_broken)?;
                Ok(Arc::new(Dataset::Folder(images.with_label_maps(maps.as_deref(), labels)?)))
            }
            DataConfig::Avatars { style, .. } => {
                let dataset = data.open(size)?;
                if maps.is_some() {
                    return Err(bad_key("task.maps", "portraits draw their own label maps; leave it out"));
                }
                if !labels.is_empty() && labels != dataset.labels() {
                    let own: Vec<&str> = dataset.labels().iter().map(|l| l.name.as_str()).collect();
                    let detail = format!("are not those of the style {style}: {}; leave them out", own.join(", "));
                    return Err(bad_key("task.labels", detail));
                }
                Ok(dataset)
            }
        }
    }

    /// The task with the labels that the data turned out to have. Errors: parameters out of range, another number of channels
    /// than the encoder's.
    pub(crate) fn settled(mut self, labels: &[Label], model: &StyleformerConfig) -> Result<Self> {
        let (channels, what) = match &mut self {
            Self::Inversion {} => (3, "an image".to_string()),
            Self::Segmentation { labels: own, .. } => {
                *own = labels.to_vec();
                let names: Vec<&str> = labels.iter().map(|l| l.name.as_str()).collect();
                (labels.len(), format!("a label map of {}", names.join(", ")))
            }
            Self::SuperResolution { min_factor, max_factor } => {
                if max_factor < min_factor {
                    return Err(bad_key(
                        "task.max_factor",
                        format!("{max_factor} is less than min_factor {min_factor}"),
                    ));
                }
                (3, "an image".to_string())
            }
        };
        if model.image_channels() != channels {
            let detail = format!("{} for {what}, which has {channels}", model.image_channels());
            return Err(bad_key("model.backbone.in_channels", detail));
        }
        Ok(self)
    }

    /// The inputs of a training step, part by part.
    pub(crate) fn inputs<'a>(&'a self, data: &'a StepData, seed: u64, step: u64) -> Inputs<'a> {
        Inputs { task: self, labels: &data.labels, rng: Philox::new(seed ^ STREAM, step) }
    }
}

/// What the encoder reads in one training step: the batch may come in parts.
pub(crate) struct Inputs<'a> {
    task: &'a Task,
    labels: &'a [u8],
    rng: Philox,
}

impl Inputs<'_> {
    /// The input for the next images of the batch, at the encoder's size.
    pub(crate) fn next(&mut self, target: &Tensor) -> Result<Tensor> {
        let shape = target.shape();
        match self.task {
            Task::Inversion {} => Ok(target.clone()),
            Task::Segmentation { labels, .. } => {
                let (now, later) = self.labels.split_at((shape[0] * shape[1] * shape[2]).min(self.labels.len()));
                self.labels = later;
                one_hot(now, labels.len(), shape, target.device())
            }
            Task::SuperResolution { min_factor, max_factor } => {
                let mut draw = || factor(*min_factor, *max_factor, f64::from(self.rng.uniform()));
                let factors: Vec<f64> = (0..shape[0]).map(|_| draw()).collect();
                degrade(target, &factors)
            }
        }
    }
}

/// `min · (max / min)^u`.
fn factor(min: f64, max: f64, u: f64) -> f64 {
    min * (max / min).powf(u)
}

/// Label maps as one channel a label, 1 where it is and 0 elsewhere: `[N, H, W, labels]`.
///
/// Errors: maps of another size than `shape` `[N, H, W, _]` says.
pub fn one_hot(
    maps: &[u8], // [N, H, W]
    labels: usize,
    shape: &[usize],
    device: Device,
) -> Result<Tensor> {
    let mut values = vec![0.0_f32; maps.len() * labels];
    for (pixel, &label) in values.chunks_exact_mut(labels.max(1)).zip(maps) {
        if let Some(value) = pixel.get_mut(usize::from(label)) {
            *value = 1.0;
        }
    }
    Ok(Tensor::from_vec(values, &[shape[0], shape[1], shape[2], labels], device)?)
}

/// Images made smaller by a factor each, to a whole number of pixels by area, and enlarged bilinearly to what they were.
///
/// PyTorch: `F.interpolate(F.adaptive_avg_pool2d(x, round(S / factor)), S, mode="bilinear")`.
pub fn degrade(
    images: &Tensor, // [N, S, S, 3]
    factors: &[f64], // [N], from 1 on
) -> Result<Tensor> {
    let size = images.shape()[1];
    no_grad(|| {
        let one = |(i, factor): (usize, &f64)| -> Result<Tensor> {
            let image = images.slice(0, i, 1)?;
            let side = ((size as f64 / factor).round() as usize).clamp(1, size);
            Ok(image.pool_area(side, side)?.resize_bilinear(size, size, false)?)
        };
        let parts = factors.iter().enumerate().map(one).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?)
    })
}

/// Held images for sample sheets, with their label maps where the task reads them.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// The portraits.
    pub pictures: Vec<Picture>,
    /// Their label maps, or none.
    pub maps: Vec<LabelMap>,
    /// The maps' labels, or none.
    pub labels: Vec<Label>,
}

/// Pictures of a sample sheet.
const SAMPLES: u64 = 8;

impl Samples {
    /// The first images of a data set that [`Task::open`] opened.
    pub fn take(dataset: &Dataset, task: &Task) -> Result<Self> {
        let indices = 0..SAMPLES.min(dataset.count());
        if !matches!(task, Task::Segmentation { .. }) {
            let pictures = indices.map(|i| Ok(dataset.picture(i)?)).collect::<Result<_>>()?;
            return Ok(Self { pictures, maps: Vec::new(), labels: Vec::new() });
        }
        let both = indices.map(|i| Ok(dataset.picture_and_map(i)?)).collect::<Result<Vec<_>>>()?;
        let (pictures, maps) = both.into_iter().unzip();
        Ok(Self { pictures, maps, labels: dataset.labels().to_vec() })
    }

    /// What the encoder reads of them, `[N, S, S, C]`, and the same as pictures.
    pub(crate) fn inputs(&self, task: &Task, device: Device) -> Result<(Tensor, Vec<Picture>)> {
        let size = self.pictures.first().map_or(0, |p| p.width);
        let n = self.pictures.len();
        let shape = [n, size, size, 3];
        let pixels: Vec<f32> = self.pictures.iter().flat_map(Picture::to_f32).collect();
        let images = Tensor::from_vec(pixels, &shape, device)?;
        match task {
            Task::Inversion {} => Ok((images, self.pictures.clone())),
            Task::Segmentation { labels, .. } => {
                let maps: Vec<u8> = self.maps.iter().flat_map(|m| m.labels.iter().copied()).collect();
                let pictures = self.maps.iter().map(|m| m.picture(labels)).collect();
                Ok((one_hot(&maps, labels.len(), &shape, device)?, pictures))
            }
            Task::SuperResolution { min_factor, max_factor } => {
                // All sizes on one sheet, the easiest first.
                let at = |i: usize| factor(*min_factor, *max_factor, (i as f64 + 0.5) / n as f64);
                let input = degrade(&images, &(0..n).map(at).collect::<Vec<_>>())?;
                let pictures = Picture::from_batch(&input.to_vec()?, size, size)?;
                Ok((input, pictures))
            }
        }
    }
}
