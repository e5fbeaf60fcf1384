//! Adam and its relatives over named parameters.
//!
//! The parameters are updated a pack at a time ([`Tensor::packs`]): an update leaves them, and the moments, side by side in a few buffers, so
//! that the next one is a few launches, however many parameters there are. Every element's arithmetic is that of a tensor alone.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use swinstyle_models::{Params, Spec};
use swinstyle_tensor::{Tensor, no_grad, ops::AdamStep};
use swinstyle_weights::Archive;

use crate::{
    Result, TrainError,
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
    /// RAdam with Lookahead (arXiv 1907.08610) and centralised gradients (arXiv 2004.01461), as pSp's `Ranger` has them: before anything
    /// else a gradient loses its mean over all axes but PyTorch's first. Its own constants are k = 6, α = 0.5, β = (0.95, 0.999) and
    /// ε = 6.1e-5 (1e-5 in Ranger's repository). One difference: the count of steps is common, where that code counts for each
    /// parameter the steps that had a gradient for it.
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
    /// Whether [`Algorithm::Ranger`] centralises gradients.
    pub centralise: bool,
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
            centralise: true,
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
    /// Over which axes the gradients of parameters are centralised; all but the first of a parameter that is not here.
    inner_axes: BTreeMap<String, Vec<usize>>,
}

impl Adam {
    /// Zero moments for the tensors of `params` whose names `trainable` accepts.
    pub fn new(params: &Params, trainable: impl Fn(&str) -> bool) -> Result<Self> {
        let zeros = params
            .iter()
            .filter(|(name, _)| trainable(name))
            .map(|(name, value)| Ok((name.clone(), value.zeros_like()?)))
            .collect::<Result<Params>>()?;
        Ok(Self { m: zeros.clone(), v: zeros, slow: Params::default(), step: 0, inner_axes: BTreeMap::new() })
    }

    /// Knows how parameters lie in memory, their names behind `prefix`: a centralised gradient needs it ([`Spec::inner_axes`]).
    pub fn laid_out(mut self, prefix: &str, specs: &[Spec]) -> Self {
        self.inner_axes.extend(specs.iter().map(|s| (format!("{prefix}{}", s.name), s.inner_axes())));
        self
    }

    /// Names of the parameters that it updates, sorted.
    pub fn names(&self) -> Vec<String> {
        self.m.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether it updates the parameter of that name.
    pub fn updates(&self, name: &str) -> bool {
        self.m.find(name).is_some()
    }

    /// One step on `params` with gradients in the order of [`Adam::names`]; `None` leaves a parameter as it is, and its moments.
    ///
    /// The count of steps, by which moments are corrected, is common to all; `torch.optim` counts for each parameter the steps that it took.
    pub fn update(&mut self, params: &mut Params, gradients: &[Option<Tensor>], options: &AdamOptions) -> Result<()> {
        self.step += 1;
        let ranger = options.algorithm == Algorithm::Ranger;
        let names = self.names();
        let centralised;
        let gradients = match ranger && options.centralise {
            true => {
                centralised = self.centralised(&names, gradients)?;
                &centralised
            }
            false => gradients,
        };
        if ranger && self.slow.is_empty() {
            for name in &names {
                self.slow.insert(name.clone(), params.get(name)?.detach());
            }
        }
        let own: Vec<(&String, &Tensor)> =
            names.iter().zip(gradients).filter_map(|(n, g)| Some((n, g.as_ref()?))).collect();
        let of_own = own.iter().map(|(name, _)| Ok(params.get(name)?.detach())).collect::<Result<Vec<_>>>()?;
        let groups = Tensor::packs(&of_own.iter().collect::<Vec<_>>());
        // Not held any longer: a group's old weights go as soon as the new ones are there.
        drop(of_own);
        no_grad(|| {
            for group in groups {
                let (names, gradients): (Vec<&String>, Vec<&Tensor>) = group.into_iter().map(|i| own[i]).unzip();
                self.update_group(params, &names, &gradients, options)?;
            }
            if ranger && self.step.is_multiple_of(options.lookahead_steps.max(1)) {
                self.look_ahead(params, &names, options.lookahead_alpha)?;
            }
            Ok(())
        })
    }

    /// Gradients without their means over the inner axes.
    fn centralised(&self, names: &[String], gradients: &[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> {
        let centre = |name: &String, g: &Tensor| {
            let others = || (1..g.shape().len()).collect();
            let axes: Vec<usize> = self.inner_axes.get(name).cloned().unwrap_or_else(others);
            if axes.is_empty() { Ok(g.clone()) } else { g.sub(&g.mean(&axes)?) }
        };
        let all = names.iter().zip(gradients).map(|(n, g)| g.as_ref().map(|g| centre(n, g)).transpose());
        no_grad(|| Ok(all.collect::<swinstyle_tensor::Result<_>>()?))
    }

    /// The step on parameters that make one pack, with their gradients.
    fn update_group(
        &mut self,
        params: &mut Params,
        names: &[&String],
        gradients: &[&Tensor],
        options: &AdamOptions,
    ) -> Result<()> {
        let shapes: Vec<&[usize]> = gradients.iter().map(|g| g.shape()).collect();
        let (p, m, v) = (params.pack(names)?, self.m.pack(names)?, self.v.pack(names)?);
        let coupled = options.algorithm == Algorithm::Adam && options.weight_decay != 0.0;
        let with_decay = match coupled {
            true => Some(Tensor::pack(gradients)?.add(&p.scale(options.weight_decay)?)?),
            false => None,
        };
        // One alone has its shape in the pack's place.
        let flat = gradients.iter().map(|g| g.reshape(&[g.len()])).collect::<std::result::Result<Vec<_>, _>>()?;
        let flat = with_decay.as_ref().map_or_else(|| flat.iter().collect(), |one| vec![one]);
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
        let [p, m, v] = step.apply(&p, &flat, &m, &v)?;
        for (pack, all) in [(p, params), (m, &mut self.m), (v, &mut self.v)] {
            all.insert_pack(names, &pack, &shapes)?;
        }
        Ok(())
    }

    /// `slow ← slow + α (fast − slow)`, from where the fast weights go on.
    fn look_ahead(&mut self, params: &mut Params, names: &[String], alpha: f64) -> Result<()> {
        let fast = names.iter().map(|name| Ok(params.get(name)?.detach())).collect::<Result<Vec<_>>>()?;
        for group in Tensor::packs(&fast.iter().collect::<Vec<_>>()) {
            let of_group: Vec<&String> = group.iter().map(|&i| &names[i]).collect();
            let shapes: Vec<&[usize]> = group.iter().map(|&i| fast[i].shape()).collect();
            let (slow, fast) = (self.slow.pack(&of_group)?, params.pack(&of_group)?);
            let slow = slow.add(&fast.sub(&slow)?.scale(alpha)?)?;
            self.slow.insert_pack(&of_group, &slow, &shapes)?;
            params.insert_pack(&of_group, &slow, &shapes)?;
        }
        Ok(())
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
