//! Adam and its relatives over named parameters; accumulation and clipping of gradients.

use serde::{Deserialize, Serialize};
use swinstyle_models::Params;
use swinstyle_tensor::{Tensor, grad, no_grad, ops::AdamStep};
use swinstyle_weights::Archive;

use crate::{
    Result, TrainError,
    run::Losses,
    state::{load_tensors, save_tensors},
};

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// arXiv 1412.6980; weight decay is added to the gradient. PyTorch: `torch.optim.Adam`.
    Adam,
    /// arXiv 1711.05101: Adam with decoupled weight decay. PyTorch: `torch.optim.AdamW`.
    #[default]
    AdamW,
    /// arXiv 1908.03265: Adam with the variance of its rate rectified; decoupled weight decay. PyTorch: `torch.optim.RAdam`.
    RAdam,
    /// RAdam with Lookahead (arXiv 1907.08610), as pSp uses.
    Ranger,
}

/// Constants of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamOptions {
    /// Which optimiser.
    pub algorithm: Algorithm,
    /// Learning rate.
    pub learning_rate: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// k of [`Algorithm::Ranger`]: steps of the fast weights between those of the slow ones.
    pub lookahead_steps: u64,
    /// α of [`Algorithm::Ranger`]: `slow ← slow + α (fast − slow)`, and the fast weights go on from there.
    pub lookahead_alpha: f64,
}

impl AdamOptions {
    /// AdamW without decay, ε 1e-8.
    pub fn new(learning_rate: f64, beta1: f64, beta2: f64) -> Self {
        Self {
            algorithm: Algorithm::AdamW,
            learning_rate,
            beta1,
            beta2,
            epsilon: 1e-8,
            weight_decay: 0.0,
            lookahead_steps: 6,
            lookahead_alpha: 0.5,
        }
    }

    /// The correction for lazy regularisation every `interval` steps: with c = interval/(interval + 1),
    /// the learning rate times c and the β to the power c (StyleGAN2, appendix B). Interval 0 changes nothing.
    pub fn lazy(self, interval: u64) -> Self {
        if interval == 0 {
            return self;
        }
        let c = interval as f64 / (interval + 1) as f64;
        let learning_rate = self.learning_rate * c;
        Self { learning_rate, beta1: self.beta1.powf(c), beta2: self.beta2.powf(c), ..self }
    }
}

/// The optimiser's memory of the parameters that it updates.
#[derive(Debug, Clone, Default)]
pub struct Adam {
    /// First moments.
    pub m: Params,
    /// Second moments.
    pub v: Params,
    /// Slow weights of Lookahead; empty before the first step of [`Algorithm::Ranger`].
    pub slow: Params,
    /// Steps taken.
    pub step: u64,
}

impl Adam {
    /// Zero moments for the tensors of `params` whose names `trainable` accepts.
    pub fn new(params: &Params, trainable: impl Fn(&str) -> bool) -> Result<Self> {
        let zeros = params
            .iter()
            .filter(|(name, _)| trainable(name))
            .map(|(name, value)| Ok((name.clone(), value.zeros_like()?)))
            .collect::<Result<Params>>()?;
        Ok(Self { m: zeros.clone(), v: zeros, slow: Params::default(), step: 0 })
    }

    /// Names of the parameters that it updates, sorted.
    pub fn names(&self) -> Vec<String> {
        self.m.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether it updates the parameter of that name.
    pub fn updates(&self, name: &str) -> bool {
        self.m.find(name).is_some()
    }

    /// One step on `params` with gradients in the order of [`Adam::names`]; `None` leaves a parameter as it is.
    pub fn update(&mut self, params: &mut Params, gradients: &[Option<Tensor>], options: &AdamOptions) -> Result<()> {
        self.step += 1;
        let ranger = options.algorithm == Algorithm::Ranger;
        let coupled = options.algorithm == Algorithm::Adam && options.weight_decay != 0.0;
        let names = self.names();
        no_grad(|| {
            if ranger && self.slow.is_empty() {
                for name in &names {
                    self.slow.insert(name.clone(), params.get(name)?.detach());
                }
            }
            for (name, gradient) in names.iter().zip(gradients) {
                let Some(g) = gradient else { continue };
                let p = params.get(name)?.detach();
                let step = AdamStep {
                    shape: p.shape().to_vec(),
                    learning_rate: options.learning_rate,
                    beta1: options.beta1,
                    beta2: options.beta2,
                    epsilon: options.epsilon,
                    weight_decay: if coupled { 0.0 } else { options.weight_decay },
                    step: self.step,
                    rectified: matches!(options.algorithm, Algorithm::RAdam | Algorithm::Ranger),
                };
                let with_decay = if coupled { Some(g.add(&p.scale(options.weight_decay)?)?) } else { None };
                let g = with_decay.as_ref().unwrap_or(g);
                let [p, m, v] = step.apply(&p, g, self.m.get(name)?, self.v.get(name)?)?;
                params.insert(name.clone(), p);
                self.m.insert(name.clone(), m);
                self.v.insert(name.clone(), v);
            }
            if ranger && self.step.is_multiple_of(options.lookahead_steps.max(1)) {
                for name in &names {
                    let (slow, fast) = (self.slow.get(name)?, params.get(name)?);
                    let slow = slow.add(&fast.sub(slow)?.scale(options.lookahead_alpha)?)?;
                    self.slow.insert(name.clone(), slow.clone());
                    params.insert(name.clone(), slow);
                }
            }
            Ok(())
        })
    }

    /// Puts the moments and the slow weights into a training state, in the memory layout: nobody but this program reads them.
    pub(crate) fn save(&self, prefix: &str, archive: &mut Archive) -> Result<()> {
        for (kind, tensors) in [("m.", &self.m), ("v.", &self.v), ("slow.", &self.slow)] {
            save_tensors(&format!("{prefix}{kind}"), tensors, archive)?;
        }
        archive.metadata.insert(format!("{prefix}step"), self.step.to_string());
        Ok(())
    }

    /// Takes them back.
    pub(crate) fn load(&mut self, prefix: &str, archive: &Archive) -> Result<()> {
        self.slow = match archive.subset(&format!("{prefix}slow.")).arrays.is_empty() {
            true => Params::default(),
            false => self.m.clone(),
        };
        for (kind, tensors) in [("m.", &mut self.m), ("v.", &mut self.v), ("slow.", &mut self.slow)] {
            load_tensors(&format!("{prefix}{kind}"), tensors, archive)?;
        }
        let key = format!("{prefix}step");
        self.step = archive.metadata.get(&key).and_then(|s| s.parse().ok()).ok_or_else(|| {
            TrainError::run(archive.origin(), format!("has no `{key}`: not a training state of this program"))
        })?;
        Ok(())
    }
}

/// Gradients of the parameters of an optimiser, added up over the parts of a batch.
#[derive(Debug, Default)]
pub struct Gradients {
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// Adds `weight` times the gradient of `loss` with respect to those of `leaves` that `adam` updates.
    pub fn add(&mut self, loss: &Tensor, weight: f64, leaves: &Params, adam: &Adam) -> Result<()> {
        let names = adam.names();
        let inputs = names.iter().map(|n| leaves.get(n)).collect::<std::result::Result<Vec<_>, _>>()?;
        let loss = if weight == 1.0 { loss.clone() } else { loss.scale(weight)? };
        let new = grad(&[(&loss, None)], &inputs, false)?;
        if self.sums.is_empty() {
            self.sums = new;
            return Ok(());
        }
        for (sum, new) in self.sums.iter_mut().zip(new) {
            *sum = match (sum.take(), new) {
                (Some(a), Some(b)) => Some(no_grad(|| a.add(&b))?),
                (a, b) => a.or(b),
            };
        }
        Ok(())
    }

    /// Divides all of them by the scale of the loss; false if a number is not finite. Waits for the device.
    pub(crate) fn unscale(&mut self, scale: f64) -> Result<bool> {
        no_grad(|| {
            let mut sums = Vec::new();
            for g in self.sums.iter_mut().flatten() {
                *g = g.scale(1.0 / scale)?;
                // 0·x is 0 but for infinities and NaN.
                sums.push(g.scale(0.0)?.sum_all()?.reshape(&[1])?);
            }
            if sums.is_empty() {
                return Ok(true);
            }
            let all = Tensor::concat(&sums.iter().collect::<Vec<_>>(), 0)?;
            Ok(all.to_vec()?.iter().all(|s| *s == 0.0))
        })
    }

    /// Scales all of them down so that their common 2-norm is at most `limit`, and puts the norm before among the `losses`
    /// under `name`; a limit of 0 does nothing. PyTorch: `clip_grad_norm_`. Nothing is read back from the device.
    pub(crate) fn clip(&mut self, limit: f64, name: &'static str, losses: &mut Losses) -> Result<()> {
        if limit <= 0.0 {
            return Ok(());
        }
        no_grad(|| {
            let mut squares: Option<Tensor> = None;
            for g in self.sums.iter().flatten() {
                let own = g.square()?.sum_all()?;
                squares = Some(match squares {
                    Some(s) => s.add(&own)?,
                    None => own,
                });
            }
            let Some(norm) = squares.map(|s| s.sqrt()).transpose()? else { return Ok(()) };
            let factor = norm.add_scalar(1e-6)?.recip()?.scale(limit)?.clamp(0.0, 1.0)?;
            for g in self.sums.iter_mut().flatten() {
                *g = g.mul(&factor)?;
            }
            losses.push((name, norm));
            Ok(())
        })
    }

    /// One step of the optimiser.
    pub fn apply(&self, params: &mut Params, adam: &mut Adam, options: &AdamOptions) -> Result<()> {
        adam.update(params, &self.sums, options)
    }
}

/// One optimiser step down the gradient of `loss` with respect to the leaves that `adam` updates.
pub(crate) fn descend(
    loss: &Tensor,
    leaves: &Params,
    params: &mut Params,
    adam: &mut Adam,
    options: &AdamOptions,
) -> Result<()> {
    let mut gradients = Gradients::default();
    gradients.add(loss, 1.0, leaves, adam)?;
    gradients.apply(params, adam, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use swinstyle_tensor::Device;

    const STEPS: [[f32; 2]; 9] = [
        [0.5, -1.0],
        [0.25, 2.0],
        [-0.5, 1.0],
        [0.125, 0.5],
        [1.0, -0.75],
        [0.3, 0.2],
        [-0.1, 0.9],
        [0.7, -0.4],
        [0.05, 0.6],
    ];

    fn options(algorithm: Algorithm) -> AdamOptions {
        AdamOptions { algorithm, weight_decay: 0.01, ..AdamOptions::new(0.1, 0.9, 0.99) }
    }

    /// What nine steps from (1, −2) end at.
    fn run(algorithm: Algorithm) -> Vec<f32> {
        let mut params: Params = [("p".to_string(), Tensor::from_vec(vec![1.0_f32, -2.0], &[2], Device::Cpu).unwrap())]
            .into_iter()
            .collect();
        let mut adam = Adam::new(&params, |_| true).unwrap();
        for g in STEPS {
            let gradient = Tensor::from_vec(g.to_vec(), &[2], Device::Cpu).unwrap();
            adam.update(&mut params, &[Some(gradient)], &options(algorithm)).unwrap();
        }
        params.get("p").unwrap().to_vec().unwrap()
    }

    #[test]
    fn nine_steps_match_pytorchs_optimisers() {
        // PyTorch 2.15 in float64: Adam, AdamW, RAdam(decoupled_weight_decay=True), each with lr=.1, betas=(.9, .99), eps=1e-8,
        // weight_decay=.01; Ranger is RAdam with `p = slow = slow + (p - slow)/2` after the sixth step.
        let expected = [
            (Algorithm::Adam, [0.500688096, -2.185945288]),
            (Algorithm::AdamW, [0.503553639, -2.179874393]),
            (Algorithm::RAdam, [0.839493316, -2.126012886]),
            (Algorithm::Ranger, [0.908559335, -2.066113756]),
        ];
        for (algorithm, expected) in expected {
            for (a, e) in run(algorithm).iter().zip(expected) {
                assert!((f64::from(*a) - e).abs() < 2e-6, "{algorithm:?}: {a} {e}");
            }
        }
    }

    #[test]
    fn clipping_bounds_the_common_norm_and_parts_add_up() {
        let leaf = |v: Vec<f32>| Tensor::from_vec(v, &[2], Device::Cpu).unwrap().as_leaf();
        let leaves: Params =
            [("a".to_string(), leaf(vec![3.0, 0.0])), ("b".to_string(), leaf(vec![0.0, 4.0]))].into_iter().collect();
        let adam = Adam::new(&leaves, |_| true).unwrap();
        let loss = leaves.get("a").unwrap().square().unwrap().sum_all().unwrap();
        let loss = loss.add(&leaves.get("b").unwrap().square().unwrap().sum_all().unwrap()).unwrap();
        // The gradient is twice the leaves: (6, 0) and (0, 8), of norm 10.
        let mut gradients = Gradients::default();
        gradients.add(&loss, 0.25, &leaves, &adam).unwrap();
        gradients.add(&loss, 0.75, &leaves, &adam).unwrap();
        let mut losses = Losses::new();
        gradients.clip(0.0, "norm", &mut losses).unwrap();
        assert!(losses.is_empty());
        gradients.clip(100.0, "norm", &mut losses).unwrap();
        assert!((losses[0].1.item().unwrap() - 10.0).abs() < 1e-5);
        assert_eq!(gradients.sums[0].as_ref().unwrap().to_vec().unwrap(), [6.0, 0.0]);
        gradients.clip(5.0, "norm", &mut losses).unwrap();
        let clipped = gradients.sums[1].as_ref().unwrap().to_vec().unwrap();
        assert!((clipped[1] - 4.0).abs() < 1e-5, "{clipped:?}");
    }
}
