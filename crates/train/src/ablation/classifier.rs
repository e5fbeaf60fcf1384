//! A small classifier of portraits' attributes: the judge of what an inversion kept.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use swinstyle_data::{
    Dataset, Loader, LoaderOptions,
    avatars::{Portrait, PortraitSet},
};
use swinstyle_models::{Init, Layout, Params, Spec};
use swinstyle_modulated_conv2d::{LeakyRelu, conv2d_bias_act};
use swinstyle_tensor::{Device, Tensor, no_grad};

use crate::{
    Adam, AdamOptions, Result,
    config::bad_key,
    gradients::descend,
    memory::{self, Need},
};

/// Portraits that the list of classes is collected from.
const LISTED: u64 = 4000;
/// Classes fewer portraits than this have are left out: nothing could be learned of them.
const RARE: u64 = 4;
/// Where a part that may be absent is absent.
const ABSENT: &str = "absent";
const LEAKY: LeakyRelu = LeakyRelu { slope: 0.2, gain: std::f64::consts::SQRT_2, clamp: None };

/// The section `[classifier]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Training images to show.
    pub images: u64,
    /// Images a step.
    pub batch: usize,
    /// AdamW's learning rate; falls to 0 as half a cosine.
    pub learning_rate: f64,
    /// Channels of the first layer; each halving of the map doubles them, up to eight times as many.
    pub width: usize,
    /// Length of the features before the classes.
    pub features: usize,
}

/// The attributes of a style and the classes of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// By attribute, such as `glasses` or `hairColor`: its classes.
    pub classes: BTreeMap<String, Vec<String>>,
}

impl Attributes {
    /// Those that training portraits show; what has one class only is left out.
    pub fn of(portraits: &PortraitSet) -> Self {
        let mut counts: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for i in 0..portraits.count().min(LISTED) {
            for (attribute, class) in described(&portraits.portrait(i)) {
                *counts.entry(attribute).or_default().entry(class).or_insert(0) += 1;
            }
        }
        let common = |classes: BTreeMap<String, u64>| -> Vec<String> {
            classes.into_iter().filter(|(_, n)| *n >= RARE).map(|(class, _)| class).collect()
        };
        let classes = counts.into_iter().map(|(attribute, classes)| (attribute, common(classes)));
        Self { classes: classes.filter(|(_, c)| c.len() > 1).collect() }
    }

    /// Classes in all.
    pub fn len(&self) -> usize {
        self.classes.values().map(Vec::len).sum()
    }

    /// Whether there is nothing to tell apart.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// By attribute, in order: the portrait's class, or nothing where training never shows it or the portrait has no such thing.
    pub fn labels(&self, portrait: &Portrait) -> Vec<Option<usize>> {
        let described = described(portrait);
        self.classes
            .iter()
            .map(|(attribute, classes)| classes.iter().position(|c| Some(c) == described.get(attribute)))
            .collect()
    }
}

/// What is drawn in a portrait: components and colours in one list.
fn described(portrait: &Portrait) -> BTreeMap<String, String> {
    let drawn = portrait.attributes();
    let components = drawn.components.into_iter().map(|(k, v)| (k, v.unwrap_or_else(|| ABSENT.to_string())));
    // A palette may be called as a component is.
    components.chain(drawn.colors.into_iter().map(|(k, v)| (format!("{k} colour"), v))).collect()
}

/// Strided 3×3 convolutions to a map of 4×4, a layer of features, and a softmax an attribute.
#[derive(Debug, Clone)]
pub struct AttributeClassifier {
    config: ClassifierConfig,
    attributes: Attributes,
    size: usize,
    params: Params,
}

/// What the classifier says of a batch.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// `[N, features]`, row by row.
    pub features: Vec<f32>,
    /// By image and attribute: the class of the largest logit.
    pub classes: Vec<Vec<usize>>,
}

impl AttributeClassifier {
    /// A fresh one for portraits of `size` pixels.
    pub fn new(config: ClassifierConfig, attributes: Attributes, size: usize, device: Device) -> Result<Self> {
        let bad = |key: &str, detail: &str| Err(bad_key(&format!("classifier.{key}"), detail));
        if !size.is_power_of_two() || size < 8 {
            return bad("size", "portraits of a power of two from 8 pixels on are judged");
        }
        let mut this = Self { config, attributes, size, params: Params::default() };
        let specs = this.specs();
        let first = (this.config.batch * size * size / 4 * this.config.width) as u64;
        let need = Need {
            networks: 4 * 4 * memory::values(&specs),
            activations: 4 * first,
            images: memory::loaded(this.config.batch, size),
        };
        need.check(memory::available(), "classifier")?;
        this.params = Params::init(&specs, 0, device)?;
        Ok(this)
    }

    /// What it tells apart.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Its weights.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// With weights that [`AttributeClassifier::params`] gave.
    pub fn with_params(self, params: Params) -> Self {
        Self { params, ..self }
    }

    /// Length of the features.
    pub fn features(&self) -> usize {
        self.config.features
    }

    fn halvings(&self) -> usize {
        self.size.ilog2() as usize - 2
    }

    fn channels(&self, halvings: usize) -> usize {
        self.config.width << halvings.min(3)
    }

    /// Its parameters.
    pub fn specs(&self) -> Vec<Spec> {
        let normal = |inputs: usize| Init::Normal { std: (1.0 / inputs as f64).sqrt() };
        let mut specs = Vec::new();
        let mut inputs = 3;
        for i in 0..=self.halvings() {
            let outputs = self.channels(i);
            let weight = Spec::new(format!("convs.{i}.weight"), &[3, 3, inputs, outputs], normal(9 * inputs));
            specs.push(weight.stored(Layout::Oihw));
            specs.push(Spec::new(format!("convs.{i}.bias"), &[outputs], Init::Constant(0.0)));
            inputs = outputs;
        }
        let (flat, features, classes) = (16 * inputs, self.config.features, self.attributes.len());
        for (name, inputs, outputs) in [("features", flat, features), ("classes", features, classes)] {
            specs.push(Spec::new(format!("{name}.weight"), &[outputs, inputs], normal(inputs)));
            specs.push(Spec::new(format!("{name}.bias"), &[outputs], Init::Constant(0.0)));
        }
        specs
    }

    /// Features `[N, features]` and logits `[N, classes]` of images `[N, S, S, 3]`.
    fn forward(&self, p: &Params, images: &Tensor) -> Result<(Tensor, Tensor)> {
        let mut x = images.clone();
        for i in 0..=self.halvings() {
            let (weight, bias) = (p.get(&format!("convs.{i}.weight"))?, p.get(&format!("convs.{i}.bias"))?);
            x = conv2d_bias_act(&x, weight, Some(bias), Some(LEAKY), if i == 0 { 1 } else { 2 }, 1)?;
        }
        let n = x.shape()[0];
        let flat = x.reshape(&[n, x.len() / n.max(1)])?;
        let features = flat.linear(p.get("features.weight")?, Some(p.get("features.bias")?))?;
        // Bounded features: the distances between them mean the same everywhere.
        let features = features.tanh()?;
        let logits = features.linear(p.get("classes.weight")?, Some(p.get("classes.bias")?))?;
        Ok((features, logits))
    }

    /// Trains on portraits; `observe` is told the images shown and the loss, and says whether to go on. Returns whether it came to the end.
    pub fn train(&mut self, data: Arc<Dataset>, observe: &mut dyn FnMut(u64, f64) -> bool) -> Result<bool> {
        let c = self.config.clone();
        let Dataset::Portraits(portraits) = &*data else {
            return Err(bad_key("data.source", "attributes are known of drawn portraits alone"));
        };
        let device = self.params.get("classes.bias")?.device();
        let options = LoaderOptions { batch_size: c.batch, ..LoaderOptions::default() };
        let mut loader = Loader::new(Arc::clone(&data), options)?;
        let mut adam = Adam::new(&self.params, |_| true)?;
        let mut params = self.params.clone();
        let steps = c.images.div_ceil(c.batch as u64);
        for step in 0..steps {
            let batch = loader.next_batch()?;
            let images = Tensor::from_vec(batch.images, &[c.batch, self.size, self.size, 3], device)?;
            let classes = self.attributes.len();
            let mut targets = vec![0.0_f32; c.batch * classes];
            for (row, &index) in targets.chunks_exact_mut(classes).zip(&batch.indices) {
                let mut first = 0;
                let labels = self.attributes.labels(&portraits.portrait(index));
                for (label, known) in labels.into_iter().zip(self.attributes.classes.values()) {
                    if let Some(label) = label {
                        row[first + label] = 1.0;
                    }
                    first += known.len();
                }
            }
            let targets = Tensor::from_vec(targets, &[c.batch, classes], device)?;
            let p = params.leaves(|_| true);
            let (_, logits) = self.forward(&p, &images)?;
            let loss = self.cross_entropy(&logits, &targets)?;
            let fall = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            let options = AdamOptions::new(c.learning_rate * fall, 0.9, 0.99);
            descend(&loss, &p, &mut params, &mut adam, &options)?;
            if !observe((step + 1) * c.batch as u64, loss.item()?) {
                return Ok(false);
            }
        }
        self.params = params;
        Ok(true)
    }

    /// Sum over attributes of the mean cross-entropy; a portrait without an attribute has no part in its term.
    fn cross_entropy(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (mut parts, mut first) = (Vec::new(), 0);
        for classes in self.attributes.classes.values() {
            parts.push(logits.slice(1, first, classes.len())?.log_softmax()?);
            first += classes.len();
        }
        let logarithms = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1)?;
        Ok(logarithms.mul(targets)?.sum_all()?.scale(-1.0 / logits.shape()[0] as f64)?)
    }

    /// Features and classes of images `[N, S, S, 3]`.
    pub fn judge(&self, images: &Tensor) -> Result<Judgement> {
        let (features, logits) = no_grad(|| self.forward(&self.params, images))?;
        let logits = logits.to_vec()?;
        let classes = logits.chunks_exact(self.attributes.len()).map(|row| {
            let mut first = 0;
            let mut picks = Vec::new();
            for known in self.attributes.classes.values() {
                let part = &row[first..first + known.len()];
                let best = part.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
                picks.push(best);
                first += known.len();
            }
            picks
        });
        Ok(Judgement { classes: classes.collect(), features: features.to_vec()? })
    }
}
