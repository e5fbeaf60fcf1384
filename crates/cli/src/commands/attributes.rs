//! Questions about portraits, whose answers are the labels of a boundary.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};
use swinstyle_data::avatars::Attributes;

use crate::{output::Usage, text::count};

/// A question about a portrait.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) part: String,
    pub(super) variants: Vec<String>,
}

pub(super) fn attribute(text: &str) -> Result<Attribute, String> {
    let bad = || format!("`{text}` is not NAME:COMPONENT, NAME:COMPONENT=VARIANT,... or NAME:COLOUR");
    let (name, rest) = text.split_once(':').ok_or_else(bad)?;
    let (part, variants) = rest.split_once('=').unwrap_or((rest, ""));
    if name.is_empty() || part.is_empty() || name.contains(['/', '\\']) {
        return Err(bad());
    }
    let variants = variants.split(',').filter(|v| !v.is_empty()).map(str::to_string).collect();
    Ok(Attribute { name: name.into(), part: part.into(), variants })
}

impl Attribute {
    /// The answer for every portrait; none where the question makes no sense (the colour of absent hair).
    ///
    /// Errors: a part that the style does not have.
    pub(super) fn labels(&self, portraits: &[Attributes]) -> Result<Vec<Option<bool>>> {
        if portraits.iter().any(|a| a.components.contains_key(&self.part)) {
            let label = |a: &Attributes| {
                let variant = a.components.get(&self.part)?;
                Some(match (variant, self.variants.is_empty()) {
                    (variant, true) => variant.is_some(),
                    (Some(variant), false) => self.variants.contains(variant),
                    (None, false) => false,
                })
            };
            return Ok(portraits.iter().map(label).collect());
        }
        let lightness: Vec<Option<f64>> = portraits.iter().map(|a| luma(a.colors.get(&self.part)?)).collect();
        let mut known: Vec<f64> = lightness.iter().flatten().copied().collect();
        if known.is_empty() || !self.variants.is_empty() {
            let parts: Vec<&String> =
                portraits.first().map(|a| a.components.keys().chain(a.colors.keys()).collect()).unwrap_or_default();
            bail!(Usage(format!(
                "--attribute {}: the portraits have no part `{}` but {parts:?}",
                self.name, self.part
            )));
        }
        known.sort_by(f64::total_cmp);
        let middle = known[known.len() / 2];
        Ok(lightness.into_iter().map(|l| l.map(|l| l >= middle)).collect())
    }
}

/// Rec. 709 luma of `#rrggbb`.
fn luma(color: &str) -> Option<f64> {
    let value = u32::from_str_radix(color.strip_prefix('#')?, 16).ok()?;
    let channel = |shift: u32| f64::from(value >> shift & 0xFF);
    Some(0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0))
}

/// Every part that is sometimes absent, and every colour.
pub(super) fn default_attributes(portraits: &[Attributes]) -> Vec<Attribute> {
    let mut parts: BTreeMap<&String, ()> = BTreeMap::new();
    for a in portraits {
        parts.extend(a.components.iter().filter(|(_, v)| v.is_none()).map(|(k, _)| (k, ())));
        parts.extend(a.colors.keys().map(|k| (k, ())));
    }
    parts.into_keys().map(|p| Attribute { name: p.clone(), part: p.clone(), variants: Vec::new() }).collect()
}

/// What to say where all portraits are alike: there is nothing to tell apart.
pub(super) fn lopsided(attribute: &Attribute, labels: &[bool]) -> Option<anyhow::Error> {
    let (name, with) = (&attribute.name, labels.iter().filter(|label| **label).count());
    let all = count(labels.len(), "portrait");
    match labels.len() - with {
        _ if labels.is_empty() => Some(anyhow!("{name}: no portrait shows whether it has it")),
        0 => Some(anyhow!("{name}: all of {all} have it, so there is nothing to tell apart")),
        without if without == labels.len() => {
            Some(anyhow!("{name}: none of {all} has it, so there is nothing to tell apart"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portrait(glasses: Option<&str>, hair: Option<&str>) -> Attributes {
        Attributes {
            components: [("accessories".to_string(), glasses.map(str::to_string))].into(),
            colors: hair.map(|h| ("hair".to_string(), h.to_string())).into_iter().collect(),
            unseen: Vec::new(),
        }
    }

    #[test]
    fn questions_are_answered_from_the_manifest() {
        let all = [
            portrait(Some("round"), Some("#000000")),
            portrait(None, Some("#ffffff")),
            portrait(Some("sunglasses"), None),
            portrait(None, Some("#00ff00")),
        ];
        let ask = |spec: &str| attribute(spec).unwrap().labels(&all);
        assert_eq!(ask("glasses:accessories").unwrap(), [Some(true), Some(false), Some(true), Some(false)]);
        assert_eq!(ask("round:accessories=round,oval").unwrap(), [Some(true), Some(false), Some(false), Some(false)]);
        assert_eq!(ask("light:hair").unwrap(), [Some(false), Some(true), None, Some(true)]);
        assert!(ask("x:nose").unwrap_err().to_string().contains("accessories"));
        let names: Vec<String> = default_attributes(&all).into_iter().map(|a| a.name).collect();
        assert_eq!(names, ["accessories", "hair"]);
        let said = |labels: &[bool]| lopsided(&attribute("pale:skin").unwrap(), labels).map(|error| error.to_string());
        assert!(said(&[true, true]).unwrap().starts_with("pale: all of 2 portraits have it"));
        assert!(said(&[false]).unwrap().starts_with("pale: none of 1 portrait has it"));
        assert!(said(&[]).is_some() && said(&[true, false]).is_none());
        for bad in ["glasses", ":x", "x:", "a/b:c"] {
            assert!(attribute(bad).is_err(), "{bad}");
        }
    }
}
