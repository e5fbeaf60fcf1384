//! The section `[augment]` of a generator's configuration.

use serde::{Deserialize, Deserializer, Serialize, de};

/// Transformations that are chosen together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Mirrors, quarter turns and shifts by whole pixels.
    Blit,
    /// Scales, rotations and fractional shifts.
    Geometric,
    /// Brightness, contrast, luma flip, hue and saturation.
    Colour,
}

/// Adaptive discriminator augmentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// `"bgc"`, some of these letters, or a list of `"blit"`, `"geometric"` and `"colour"`.
    #[serde(deserialize_with = "groups")]
    pub kind: Vec<Group>,
    /// r_t that p is steered to: the mean sign of the discriminator's logits of real images.
    #[serde(default = "target")]
    pub target: f64,
    /// Steps between adjustments of p.
    #[serde(default = "ada_interval")]
    pub ada_interval: u64,
    /// Real images over which p can go from 0 to 1.
    #[serde(default = "ada_images")]
    pub ada_images: u64,
    /// p at the start.
    #[serde(default)]
    pub initial_p: f64,
    /// Keeps p at this value instead of steering it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_p: Option<f64>,
}

fn target() -> f64 {
    0.6
}

fn ada_interval() -> u64 {
    4
}

fn ada_images() -> u64 {
    500_000
}

const GROUPS: [(&str, char, Group); 3] =
    [("blit", 'b', Group::Blit), ("geometric", 'g', Group::Geometric), ("colour", 'c', Group::Colour)];

/// The groups from their letters or from a list of their names, in the order of application.
fn groups<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Group>, D::Error> {
    struct Groups;

    impl<'de> de::Visitor<'de> for Groups {
        type Value = Vec<Group>;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("\"bgc\", some of these letters, or a list of \"blit\", \"geometric\" and \"colour\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
            let known = !text.is_empty() && text.chars().all(|c| GROUPS.iter().any(|g| g.1 == c));
            if !known {
                return Err(E::invalid_value(de::Unexpected::Str(text), &self));
            }
            Ok(GROUPS.iter().filter(|g| text.contains(g.1)).map(|g| g.2).collect())
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
            let mut names: Vec<String> = Vec::new();
            while let Some(name) = list.next_element::<String>()? {
                if !GROUPS.iter().any(|g| g.0 == name) {
                    return Err(de::Error::invalid_value(de::Unexpected::Str(&name), &self));
                }
                names.push(name);
            }
            if names.is_empty() {
                return Err(de::Error::invalid_length(0, &self));
            }
            Ok(GROUPS.iter().filter(|g| names.iter().any(|n| n == g.0)).map(|g| g.2).collect())
        }
    }

    deserializer.deserialize_any(Groups)
}
