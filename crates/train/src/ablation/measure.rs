//! What an encoder is measured by.

use std::{collections::BTreeMap, time::Instant};

use serde::{Deserialize, Serialize};
use swinstyle_data::{
    Picture,
    avatars::{Portrait, Renderer, Split},
    picture::{mse, psnr, ssim},
};
use swinstyle_models::Model;
use swinstyle_tensor::{Device, Tensor};

use super::{AttributeClassifier, Heldout, classifier::Judgement, frechet_distance};
use crate::Result;

/// Images of one pass.
const BATCH: usize = 32;
/// Rounds of timing.
const ROUNDS: usize = 7;

/// Held-out portraits with what the classifier says of them.
pub struct Examples {
    /// The pictures.
    pub pictures: Vec<Picture>,
    /// By picture and attribute: the true class where training has shown it.
    labels: Vec<Vec<Option<usize>>>,
    unseen: Vec<bool>,
    judgement: Judgement,
    /// The share of attributes that the classifier finds in the pictures themselves: the most that a reconstruction can be expected to reach.
    pub agreement: f64,
    /// The same by attribute.
    pub agreement_by_attribute: BTreeMap<String, f64>,
    size: usize,
    device: Device,
}

impl Examples {
    /// Draws them and has them judged.
    pub fn new(renderer: &Renderer, heldout: Heldout, judge: &AttributeClassifier, device: Device) -> Result<Self> {
        let size = renderer.size();
        let sample = |i: u64| Portrait::sample(renderer.style(), heldout.seed, i, Split::Heldout);
        let portraits: Vec<Portrait> = (0..heldout.images).map(sample).collect();
        let pictures = portraits.iter().map(|p| renderer.render(p)).collect::<std::result::Result<Vec<_>, _>>()?;
        let labels: Vec<_> = portraits.iter().map(|p| judge.attributes().labels(p)).collect();
        let unseen = portraits.iter().map(|p| !p.attributes().unseen.is_empty()).collect();
        let judgement = judge_pictures(judge, &pictures, size, device)?;
        let (agreement, agreement_by_attribute) = agreement(judge, &labels, &judgement);
        Ok(Self { pictures, labels, unseen, judgement, agreement, agreement_by_attribute, size, device })
    }
}

/// The numbers of one trained encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Mean squared error of images in [−1, 1].
    pub mse: f64,
    /// Mean of the images' PSNR in dB.
    pub psnr: f64,
    /// The same over images of variants that training shows.
    pub psnr_seen: f64,
    /// The same over images with a variant that training never shows.
    pub psnr_unseen: f64,
    /// Mean SSIM, of the images in [0, 1].
    pub ssim: f64,
    /// Mean over images of the distance between the classifier's features of source and reconstruction, over √dimensions.
    pub feature_distance: f64,
    /// Share of true attributes that the classifier finds in the reconstructions.
    pub agreement: f64,
    /// The same by attribute.
    pub agreement_by_attribute: BTreeMap<String, f64>,
    /// Fréchet distance between the classifier's features of all sources and all reconstructions.
    pub frechet: f64,
    /// Trained values of the encoder.
    pub parameters: usize,
}

/// Inverts the examples and compares.
pub fn measure(model: &Model, examples: &Examples, judge: &AttributeClassifier) -> Result<Measures> {
    let (size, device) = (examples.size, examples.device);
    let mut made = Vec::new();
    for chunk in examples.pictures.chunks(BATCH) {
        let images = model.invert(&batch(chunk, size, device)?)?.images.pool_area(size, size)?;
        made.extend(Picture::from_batch(&images.to_vec()?, size, size)?);
    }
    let (mut errors, mut ratios, mut similar) = (Vec::new(), Vec::new(), Vec::new());
    for (source, made) in examples.pictures.iter().zip(&made) {
        let (a, b) = (source.to_f32(), made.to_f32());
        errors.push(mse(&a, &b)?);
        ratios.push(psnr(&a, &b)?);
        similar.push(ssim(&a, &b, size, size, 3)?);
    }
    let judgement = judge_pictures(judge, &made, size, device)?;
    let d = judge.features();
    let distances = examples.judgement.features.chunks(d).zip(judgement.features.chunks(d)).map(|(a, b)| {
        let sum: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        (sum / d as f64).sqrt()
    });
    let feature_distance = mean(distances);
    let (agreement, agreement_by_attribute) = agreement(judge, &examples.labels, &judgement);
    let of = |unseen: bool| mean(ratios.iter().zip(&examples.unseen).filter(|(_, u)| **u == unseen).map(|(r, _)| *r));
    let parameters = model.encoder.as_ref().map_or(0, |(encoder, params)| {
        encoder.specs().iter().filter(|s| s.trainable).filter_map(|s| params.find(&s.name)).map(Tensor::len).sum()
    });
    Ok(Measures {
        mse: mean(errors.iter().copied()),
        psnr: mean(ratios.iter().copied()),
        psnr_seen: of(false),
        psnr_unseen: of(true),
        ssim: mean(similar.iter().copied()),
        feature_distance,
        agreement,
        agreement_by_attribute,
        frechet: frechet_distance(&examples.judgement.features, &judgement.features, d),
        parameters,
    })
}

/// Milliseconds an image, source to reconstruction, of each model: the models take turns, and the fastest of several rounds counts, so that what
/// else the machine does falls on all alike.
pub fn time(models: &[Model], examples: &Examples) -> Result<Vec<f64>> {
    let first = &examples.pictures[..BATCH.min(examples.pictures.len())];
    let images = batch(first, examples.size, examples.device)?;
    let mut fastest = vec![f64::INFINITY; models.len()];
    for _ in 0..ROUNDS {
        for (model, fastest) in models.iter().zip(&mut fastest) {
            let started = Instant::now();
            model.invert(&images)?.images.to_vec()?;
            *fastest = fastest.min(started.elapsed().as_secs_f64() * 1e3 / first.len() as f64);
        }
    }
    Ok(fastest)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for v in values {
        (sum, count) = (sum + v, count + 1.0);
    }
    if count > 0.0 { sum / count } else { f64::NAN }
}

fn batch(pictures: &[Picture], size: usize, device: Device) -> Result<Tensor> {
    let pixels: Vec<f32> = pictures.iter().flat_map(Picture::to_f32).collect();
    Ok(Tensor::from_vec(pixels, &[pictures.len(), size, size, 3], device)?)
}

fn judge_pictures(judge: &AttributeClassifier, pictures: &[Picture], size: usize, device: Device) -> Result<Judgement> {
    let mut all = Judgement { features: Vec::new(), classes: Vec::new() };
    for chunk in pictures.chunks(BATCH) {
        let one = judge.judge(&batch(chunk, size, device)?)?;
        all.features.extend(one.features);
        all.classes.extend(one.classes);
    }
    Ok(all)
}

/// The mean over attributes of the share of images whose class is the true one, and that share by attribute.
fn agreement(
    judge: &AttributeClassifier,
    labels: &[Vec<Option<usize>>],
    judgement: &Judgement,
) -> (f64, BTreeMap<String, f64>) {
    let mut by_attribute = BTreeMap::new();
    for (k, attribute) in judge.attributes().classes.keys().enumerate() {
        let known = labels.iter().zip(&judgement.classes).filter_map(|(l, c)| Some((l[k]?, c[k])));
        let share = mean(known.map(|(truth, said)| f64::from(u8::from(truth == said))));
        if share.is_finite() {
            by_attribute.insert(attribute.clone(), share);
        }
    }
    (mean(by_attribute.values().copied()), by_attribute)
}
