//! Starting a training from another model's weights (`--init`): transfer from one domain to the next.

use std::path::Path;

use serde::{Deserialize, Serialize};
use swinstyle_models::{Lineage, Model, Params, Spec};
use swinstyle_weights::Archive;

use crate::{Result, TrainError};

/// Key of the record in a training state's metadata, and in what a model says of its training.
pub(crate) const KEY: &str = "init";

/// Where the first weights of a training came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// Name of the file, without its folder.
    pub file: String,
    /// The networks that were taken: `generator`, `discriminator`, `encoder`.
    pub taken: Vec<String>,
    /// Training images that the file's networks had seen.
    pub images_seen: u64,
    /// What they were trained on.
    pub data: String,
    /// Whose weights the generator had, where it was taken.
    #[serde(default, skip_serializing_if = "Lineage::is_empty")]
    pub lineage: Lineage,
}

impl Init {
    pub(crate) fn new(file: &Path, model: &Model, taken: &[&str]) -> Result<Self> {
        let h = &model.header;
        let lineage = if taken.contains(&"generator") { model.lineage()? } else { Lineage::default() };
        Ok(Self {
            file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            taken: taken.iter().map(|t| t.to_string()).collect(),
            images_seen: h.images_seen,
            data: h.data.description.clone(),
            lineage,
        })
    }

    /// For a training state: a resumed run exports the same record.
    pub(crate) fn save(this: Option<&Self>, archive: &mut Archive) -> Result<()> {
        if let Some(init) = this {
            archive.metadata.insert(KEY.into(), crate::record::to_json(init)?.to_string());
        }
        Ok(())
    }

    /// What [`Init::save`] wrote.
    pub(crate) fn load(archive: &Archive) -> Result<Option<Self>> {
        let parse = |text: &String| serde_json::from_str(text);
        let bad = |e| TrainError::run(archive.origin(), format!("its `{KEY}` cannot be read: {e}"));
        archive.metadata.get(KEY).map(parse).transpose().map_err(bad)
    }
}

/// The weights that `specs` name, from another network's. Errors: the first tensor that is missing, has another shape, or is
/// there although this network has none of its name.
pub(crate) fn matching(specs: &[Spec], from: &Params, network: &str, file: &Path) -> Result<Params> {
    let refuse = |name: &str, detail: String| Err(TrainError::run(file, format!("`{network}.{name}` {detail}")));
    let mut taken = Params::default();
    for spec in specs {
        match from.find(&spec.name) {
            Some(value) if value.shape() == spec.shape => taken.insert(spec.name.clone(), value.clone()),
            Some(value) => {
                return refuse(&spec.name, format!("is {:?}, this training's is {:?}", value.shape(), spec.shape));
            }
            None => return refuse(&spec.name, format!("is missing; this training's is {:?}", spec.shape)),
        }
    }
    match from.iter().find(|(name, _)| taken.find(name).is_none()) {
        Some((name, value)) => refuse(name, format!("is {:?}, this training has none", value.shape())),
        None => Ok(taken),
    }
}
