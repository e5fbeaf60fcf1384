//! What an encoder is trained down: its passes over a part of a batch, and the terms of their loss.

use swinstyle_models::{
    Params,
    styleformer::Training,
    stylegan2::{Features, Generator, Noise},
};
use swinstyle_tensor::{Tensor, no_grad, rng::Philox};

use super::{DECODER, EncoderTrainer};
use crate::{
    Gradients, Result, TrainError,
    adversary::Inverted,
    config::{Alignment, bad_key},
    loss_scale::LossScale,
    losses::{delta_norm, l2, latent_kl, pairwise_kl, w_norm},
    run::Losses,
};

/// Mapped w behind the `latent-kl` alignment.
const MAPPED: usize = 256;

/// One part of a batch after its passes, without history: see [`Inverted`].
pub(super) struct Seen {
    pub(super) source: Tensor,
    pub(super) key: Option<Tensor>,
    pub(super) made: Tensor,
    pub(super) w_plus: Tensor,
}

impl EncoderTrainer {
    /// w of random z, `[N, D]`, without history.
    fn mapped(&self, n: usize, rng: &mut Philox) -> Result<Tensor> {
        let g = &self.model.generator;
        Ok(no_grad(|| g.random_w(&self.model.generator_params, n, rng, self.device))?)
    }

    /// Features of the frozen generator on random codes, for the alignment loss: the mean over pixels of its last map
    /// with the most channels `[N, C]` [ours].
    fn generator_features(&self, n: usize, rng: &mut Philox) -> Result<Tensor> {
        let g = &self.model.generator;
        let w = g.repeat_w(&self.mapped(n, rng)?)?;
        no_grad(|| {
            let mut maps = Features::new();
            g.synthesis(&self.model.generator_params, &w, &mut Noise::Random(rng), Some(&mut maps))?;
            let widest = g.config.channels.0.iter().enumerate().max_by_key(|(_, c)| **c).map_or(0, |(i, _)| i);
            let map = maps
                .get(&format!("x{}", 4_usize << widest))
                .ok_or_else(|| bad_key("model", "the generator gave no features"))?;
            let c = map.shape()[3];
            Ok(map.mean(&[1, 2])?.reshape(&[n, c])?)
        })
    }

    /// The encoder's passes over one part of a batch: one, or as many as ReStyle's refinement has, each with its own loss on the code so far.
    /// Adds their gradients; returns what the discriminator learns from, without history.
    pub(super) fn passes(
        &self,
        p: &Params,
        input: &Tensor, // [N, S, S, C]: what the encoder reads
        source: Tensor, // [N, S, S, 3]: what is to be made
        training: &mut Training,
        draws: &mut Philox,
        gradients: &mut Gradients,
        losses: &mut Losses,
    ) -> Result<Seen> {
        let key = match &self.adversary {
            Some(adversary) => adversary.key(&source)?,
            None => None,
        };
        let count = self.config.model.refine_steps;
        let share = LossScale::factor(&self.scale) / (count * self.config.run.accumulate) as f64;
        let keeps_f32 = |name: &str| name.strip_prefix(DECODER).is_some_and(Generator::keeps_f32);
        let computing = p.to_dtype(self.config.run.precision, keeps_f32)?;
        let decoder = if self.config.train_decoder { computing.under(DECODER) } else { self.frozen.clone() };
        let mut w_plus = self.model.first_code()?;
        // Of w_avg one image serves all.
        let mut made = match count {
            1 => source.clone(),
            _ => no_grad(|| Ok::<_, TrainError>(self.synthesis(&decoder, &w_plus)?.broadcast_to(source.shape())?))?,
        };
        for pass in 0..count {
            let refined = if count > 1 { Some(Tensor::concat(&[input, &made], 3)?) } else { None };
            let output = self.encoder.forward(&computing, refined.as_ref().unwrap_or(input), Some(training))?;
            let code = output.offsets.add(&w_plus)?;
            let image = self.synthesis(&decoder, &code)?;
            let offsets = if pass == 0 { output.offsets } else { code.sub(&self.model.w_avg)? };
            let seen = Inverted { source: &source, key: key.as_ref(), made: &image, w_plus: &code };
            let pooled = &output.backbone.pooled;
            let pooled = pooled.to_dtype(pooled.dtype().wide())?;
            let total = self.objective(seen, &offsets, &pooled, draws, losses)?;
            gradients.add(&total, share, p, &self.adam)?;
            (w_plus, made) = (code.detach(), image.detach());
        }
        Ok(Seen { source, key, made, w_plus })
    }

    /// The image of a code at the encoder's size, by area pooling where the generator's is larger [ref pSp].
    fn synthesis(&self, decoder: &Params, w_plus: &Tensor) -> Result<Tensor> {
        let size = self.config.model.image_size;
        Ok(self.model.generator.synthesis(decoder, w_plus, &mut Noise::Fixed, None)?.pool_area(size, size)?)
    }

    /// The weighted sum of the loss terms; each goes among the `losses`.
    fn objective(
        &self,
        inverted: Inverted,
        offsets: &Tensor,  // [N, L, D]
        features: &Tensor, // [N, C]
        draws: &mut Philox,
        losses: &mut Losses,
    ) -> Result<Tensor> {
        let (l, n) = (&self.config.loss, offsets.shape()[0]);
        let mse = l2(inverted.made, inverted.source)?;
        losses.push(("l2", mse.detach()));
        let mut total = mse.scale(l.l2)?;
        let mut add = |name: &'static str, weight: f64, term: Tensor| -> Result<()> {
            total = total.add(&term.scale(weight)?)?;
            losses.push((name, term.detach()));
            Ok(())
        };
        if let Some(features) = &self.features {
            // A generator's discriminator may read larger images than the encoder.
            let side = features.discriminator.config.size;
            let seen = |images: &Tensor| images.resize_bilinear(side, side, false);
            let distance = match side == self.config.model.image_size {
                true => features.distance(inverted.made, inverted.source)?,
                false => features.distance(&seen(inverted.made)?, &seen(inverted.source)?)?,
            };
            add("perceptual", l.perceptual, distance)?;
        }
        for (name, weight, term) in self.foreign.terms(inverted.made, inverted.source)? {
            add(name, weight, term)?;
        }
        if l.w_norm > 0.0 {
            add("w_norm", l.w_norm, w_norm(offsets)?)?;
        }
        if l.delta > 0.0 {
            add("delta", l.delta, delta_norm(offsets)?)?;
        }
        if l.alignment > 0.0 {
            let term = match l.alignment_form {
                Alignment::PairwiseKl => pairwise_kl(features, &self.generator_features(n, draws)?)?,
                Alignment::LatentKl => latent_kl(inverted.w_plus, &self.mapped(MAPPED, draws)?)?,
            };
            add("alignment", l.alignment, term)?;
        }
        if let Some(adversary) = &self.adversary {
            add("adversarial", l.adversarial, adversary.encoder_term(inverted)?)?;
        }
        losses.push(("loss", total.detach()));
        Ok(total)
    }
}
