//! Adam over named parameters.

use swinstyle_models::Params;
use swinstyle_tensor::{Tensor, no_grad, ops::AdamStep};

use crate::Result;

/// Constants of one Adam step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamOptions {
    /// Learning rate.
    pub learning_rate: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// Decoupled weight decay (AdamW).
    pub weight_decay: f64,
}

impl AdamOptions {
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

/// Moments of the parameters that have had gradients.
#[derive(Debug, Clone, Default)]
pub struct Adam {
    /// First moments.
    pub m: Params,
    /// Second moments.
    pub v: Params,
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
        Ok(Self { m: zeros.clone(), v: zeros, step: 0 })
    }

    /// Names of the parameters that it updates, sorted.
    pub fn names(&self) -> Vec<String> {
        self.m.iter().map(|(name, _)| name.clone()).collect()
    }

    /// One step on `params` with gradients in the order of [`Adam::names`]; `None` leaves a parameter as it is.
    pub fn update(&mut self, params: &mut Params, gradients: &[Option<Tensor>], options: &AdamOptions) -> Result<()> {
        self.step += 1;
        let names = self.names();
        no_grad(|| {
            for (name, gradient) in names.iter().zip(gradients) {
                let Some(g) = gradient else { continue };
                let p = params.get(name)?.detach();
                let step = AdamStep {
                    shape: p.shape().to_vec(),
                    learning_rate: options.learning_rate,
                    beta1: options.beta1,
                    beta2: options.beta2,
                    epsilon: options.epsilon,
                    weight_decay: options.weight_decay,
                    step: self.step,
                };
                let [p, m, v] = step.apply(&p, g, self.m.get(name)?, self.v.get(name)?)?;
                params.insert(name.clone(), p);
                self.m.insert(name.clone(), m);
                self.v.insert(name.clone(), v);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swinstyle_tensor::Device;

    #[test]
    fn two_steps_match_pytorchs_adamw() {
        // torch.optim.AdamW([1., -2.], lr=.1, betas=(.9, .99), eps=1e-8, weight_decay=.01), gradients [.5, -1.] then [.25, 2.]:
        // by the formula in f64.
        let mut params: Params = [("p".to_string(), Tensor::from_vec(vec![1.0_f32, -2.0], &[2], Device::Cpu).unwrap())]
            .into_iter()
            .collect();
        let mut adam = Adam::new(&params, |_| true).unwrap();
        let options = AdamOptions { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.01 };
        let (mut p, mut m, mut v) = ([1.0_f64, -2.0], [0.0; 2], [0.0; 2]);
        for (t, g) in [[0.5_f32, -1.0], [0.25, 2.0]].into_iter().enumerate() {
            let gradient = Tensor::from_vec(g.to_vec(), &[2], Device::Cpu).unwrap();
            adam.update(&mut params, &[Some(gradient)], &options).unwrap();
            for i in 0..2 {
                m[i] = 0.9 * m[i] + 0.1 * g[i] as f64;
                v[i] = 0.99 * v[i] + 0.01 * (g[i] as f64).powi(2);
                let (mh, vh) = (m[i] / (1.0 - 0.9_f64.powi(t as i32 + 1)), v[i] / (1.0 - 0.99_f64.powi(t as i32 + 1)));
                p[i] = p[i] * (1.0 - 0.1 * 0.01) - 0.1 * mh / (vh.sqrt() + 1e-8);
            }
        }
        for (a, e) in params.get("p").unwrap().to_vec().unwrap().iter().zip(p) {
            assert!((*a as f64 - e).abs() < 1e-6, "{a} {e}");
        }
    }
}
