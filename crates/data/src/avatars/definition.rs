//! The JSON of a style definition, as far as the drawn styles use it; anything else in it is an error, not a wrong picture.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
    #[serde(rename = "$schema", default)]
    _schema: String,
    #[serde(rename = "$comment", default)]
    _comment: String,
    pub meta: Meta,
    pub canvas: Canvas,
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeValue>,
    // Sorted by name, so that the order of draws does not hang on a feature of the JSON parser.
    pub components: BTreeMap<String, Component>,
    pub colors: BTreeMap<String, Palette>,
}

/// Where a style comes from; repeated in every data set drawn from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meta {
    pub license: License,
    pub creator: Link,
    pub source: Link,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct License {
    pub name: String,
    pub url: String,
    /// The sentence of attribution.
    pub text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    pub name: String,
    pub url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Canvas {
    pub elements: Vec<Element>,
    pub width: f32,
    pub height: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Component {
    // The box that a rotation would turn about; nothing here is rotated.
    #[serde(rename = "width")]
    _width: f32,
    #[serde(rename = "height")]
    _height: f32,
    /// How often the part is there at all, in percent.
    #[serde(default = "always")]
    pub probability: f64,
    pub variants: BTreeMap<String, Variant>,
}

fn always() -> f64 {
    100.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    pub elements: Vec<Element>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Palette {
    /// Palettes (or `background`) whose pick this one avoids.
    #[serde(rename = "notEqualTo", default)]
    pub not_equal_to: Vec<String>,
    pub values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Element {
    /// An SVG element.
    Element {
        name: String,
        #[serde(default)]
        attributes: BTreeMap<String, AttributeValue>,
        #[serde(default)]
        children: Vec<Element>,
    },
    /// The picked variant of a component.
    Component {
        name: String,
        #[serde(default)]
        attributes: BTreeMap<String, AttributeValue>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum AttributeValue {
    Text(String),
    /// The picked colour of a palette.
    Color(ColorReference),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum ColorReference {
    Color { name: String },
}
