//! Losses whose networks the user brings: LPIPS and identity.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use swinstyle_models::{
    ModelError,
    foreign::{ArcFace, Lpips},
};
use swinstyle_tensor::{DType, Device, Tensor, no_grad};

use crate::{
    Result,
    config::{EncoderLoss, bad_key},
};

/// The frozen networks that a configuration names.
pub(crate) struct ForeignLosses {
    lpips: Option<(f64, Lpips)>,
    identity: Option<(f64, ArcFace)>,
}

impl ForeignLosses {
    /// Reads the networks whose weight is above 0, for images of `size` pixels. Errors: a weight without a file, what the files lack, and images
    /// that a network cannot read.
    pub(crate) fn load(loss: &EncoderLoss, size: usize, device: Device) -> Result<Self> {
        let unnamed = |key: &str, what: &str| {
            let detail = format!("needs the weights of {what}: loss.{key}_weights = \"FILE.safetensors\"");
            bad_key(&format!("loss.{key}"), detail)
        };
        let unfit = |key: &'static str| move |e: ModelError| bad_key(key, e.to_string());
        let lpips = match loss.lpips > 0.0 {
            true if loss.lpips_weights.is_empty() => return Err(unnamed("lpips", "LPIPS (trunk and linear heads)")),
            true => Some((loss.lpips, Lpips::load(&loss.lpips_weights, device).map_err(unfit("loss.lpips_weights"))?)),
            false => None,
        };
        let identity = match (loss.identity > 0.0, &loss.identity_weights) {
            (true, None) => return Err(unnamed("identity", "ArcFace IR-SE50")),
            (true, Some(path)) => {
                Some((loss.identity, ArcFace::load(path, device).map_err(unfit("loss.identity_weights"))?))
            }
            (false, _) => None,
        };
        let this = Self { lpips, identity };
        this.try_on(size, device)?;
        Ok(this)
    }

    /// Looks at an image of the encoder's size once: what a network cannot read is known before anything is trained.
    fn try_on(&self, size: usize, device: Device) -> Result<()> {
        let image = Tensor::full(0.0, &[1, size, size, 3], DType::F32, device)?;
        let unfit = |key: &'static str| move |e: ModelError| bad_key(key, format!("for images of {size} px: {e}"));
        if let Some((_, network)) = &self.lpips {
            no_grad(|| network.distance(&image, &image)).map_err(unfit("loss.lpips"))?;
        }
        if let Some((_, network)) = &self.identity {
            no_grad(|| network.distance(&image, &image)).map_err(unfit("loss.identity"))?;
        }
        Ok(())
    }

    /// Name, weight and value of each for the pictures `made` of `input`, both `[N, H, W, 3]`.
    pub(crate) fn terms(&self, made: &Tensor, input: &Tensor) -> Result<Vec<(&'static str, f64, Tensor)>> {
        let mut terms = Vec::new();
        if let Some((weight, network)) = &self.lpips {
            terms.push(("lpips", *weight, network.distance(made, input)?));
        }
        if let Some((weight, network)) = &self.identity {
            terms.push(("identity", *weight, network.distance(made, input)?));
        }
        Ok(terms)
    }
}

/// One file or a list of them.
pub(crate) fn files<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a file or a list of files expected")]
    enum Files {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(match Files::deserialize(deserializer)? {
        Files::One(path) => vec![path],
        Files::Many(paths) => paths,
    })
}
