//! A portrait: which variant and which colour each part of a style got, from (seed, split, index) alone.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::BACKGROUND;
use super::style::{Part, Piece, Style};
use crate::random::{Stream, key};
use crate::{DataError, Result};

/// Which part of the world a portrait comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Everything but the barred variants.
    Train,
    /// Every variant, also those that [`Split::Train`] never draws; never the same stream as `Train`.
    Heldout,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Heldout => "heldout",
        })
    }
}

impl FromStr for Split {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "train" => Ok(Split::Train),
            "heldout" => Ok(Split::Heldout),
            _ => Err(DataError::argument("split", format!("`{text}`"), "train or heldout")),
        }
    }
}

/// One portrait's picks; pixels come from [`super::Renderer`].
#[derive(Clone)]
pub struct Portrait {
    style: Arc<Style>,
    seed: u64,
    index: u64,
    split: Split,
    /// By component: the picked variant, if the part is there.
    variants: Vec<Option<usize>>,
    /// By palette: the picked value.
    colors: Vec<usize>,
}

/// What is drawn in a portrait, in words: the manifest's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// By component: the variant, or nothing where a part that may be absent is absent.
    pub components: BTreeMap<String, Option<String>>,
    /// By palette that something drawn uses: the colour, `#rrggbb`.
    pub colors: BTreeMap<String, String>,
    /// The drawn variants that the `train` split never holds, as `component:variant`.
    pub unseen: Vec<String>,
}

/// A fragment where and how it is drawn; equal layers have equal pixels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Layer {
    pub fragment: usize,
    pub transform: String,
    /// The picked values of the fragment's palettes, in their order.
    pub colors: Vec<usize>,
}

impl Portrait {
    /// Draws the portrait number `index` of a seed and a split.
    ///
    /// Each component is present with its probability and takes one of its variants uniformly; each palette takes one
    /// of its values uniformly, without those that the definition keeps apart (`notEqualTo`; from the background also what can
    /// hardly be told from it). A part's draws do not depend on which other parts are there.
    pub fn sample(style: &Arc<Style>, seed: u64, index: u64, split: Split) -> Self {
        let mut stream = Stream::new(key(&[seed, split as u64, index]));
        let mut variants = Vec::with_capacity(style.components.len());
        for component in &style.components {
            let present = stream.unit() * 100.0 < component.probability;
            let allowed = |variant: usize| split == Split::Heldout || !component.variants[variant].barred;
            let choices: Vec<usize> = (0..component.variants.len()).filter(|&variant| allowed(variant)).collect();
            let pick = choices[stream.below(choices.len())];
            variants.push(present.then_some(pick));
        }
        let mut colors: Vec<usize> = Vec::with_capacity(style.palettes.len());
        for palette in &style.palettes {
            let taken = |value: &String| {
                palette.not_equal_to.iter().any(|&other| style.palettes[other].values[colors[other]] == *value)
            };
            let mut choices: Vec<usize> = (0..palette.values.len()).filter(|&i| !taken(&palette.values[i])).collect();
            if choices.is_empty() {
                // A palette of one value cannot keep apart from it.
                choices.push(0);
            }
            let pick = choices[stream.below(choices.len())];
            colors.push(pick);
        }
        Self { style: Arc::clone(style), seed, index, split, variants, colors }
    }

    /// The style that it is drawn in.
    pub fn style(&self) -> &Arc<Style> {
        &self.style
    }

    /// The seed that it was drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Its number in the seed's sequence.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The split that it was drawn for.
    pub fn split(&self) -> Split {
        self.split
    }

    /// What is drawn, in words.
    pub fn attributes(&self) -> Attributes {
        let mut attributes = Attributes { components: BTreeMap::new(), colors: BTreeMap::new(), unseen: Vec::new() };
        self.describe(&self.style.canvas, &mut attributes);
        attributes.unseen.sort();
        attributes
    }

    fn describe(&self, parts: &[Part], attributes: &mut Attributes) {
        for part in parts {
            match part {
                Part::Fragment(fragment) => {
                    for &palette in &self.style.fragments[*fragment].palettes {
                        let value = self.style.palettes[palette].values[self.colors[palette]].clone();
                        attributes.colors.insert(self.style.palettes[palette].name.clone(), value);
                    }
                }
                Part::Component { component, .. } => {
                    let (name, picked) = (&self.style.components[*component].name, self.variants[*component]);
                    let variant = picked.map(|variant| &self.style.components[*component].variants[variant]);
                    attributes.components.insert(name.clone(), variant.map(|variant| variant.name.clone()));
                    if let Some(variant) = variant {
                        if variant.barred {
                            attributes.unseen.push(format!("{name}:{}", variant.name));
                        }
                        self.describe(&variant.parts, attributes);
                    }
                }
            }
        }
    }

    /// The layers from the bottom up.
    pub(super) fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        self.collect_layers(&self.style.canvas, "", &mut layers);
        layers
    }

    fn collect_layers(&self, parts: &[Part], transform: &str, layers: &mut Vec<Layer>) {
        for part in parts {
            match part {
                Part::Fragment(fragment) => {
                    let palettes = &self.style.fragments[*fragment].palettes;
                    let colors = palettes.iter().map(|&palette| self.colors[palette]).collect();
                    layers.push(Layer { fragment: *fragment, transform: transform.to_owned(), colors });
                }
                Part::Component { component, transform: own } => {
                    let Some(variant) = self.variants[*component] else { continue };
                    // An SVG transform list applies from the outside in, as nested groups do.
                    let nested = format!("{transform} {own}");
                    self.collect_layers(
                        &self.style.components[*component].variants[variant].parts,
                        nested.trim(),
                        layers,
                    );
                }
            }
        }
    }

    /// The whole portrait as an SVG document, one group a layer on the background.
    pub fn svg(&self) -> String {
        let [r, g, b] = BACKGROUND;
        let mut body = format!("<rect width=\"100%\" height=\"100%\" fill=\"#{r:02x}{g:02x}{b:02x}\"/>");
        for layer in self.layers() {
            body.push_str(&layer.group(&self.style));
        }
        document(&self.style, &body)
    }
}

impl Layer {
    /// The layer alone, as an SVG document without a background.
    pub(super) fn svg(&self, style: &Style) -> String {
        document(style, &self.group(style))
    }

    /// A group of its own: a blend mode inside it (the sheen of sunglasses) acts on the layer, not on what is below,
    /// so that a layer's pixels do not depend on the rest of the picture.
    fn group(&self, style: &Style) -> String {
        let fragment = &style.fragments[self.fragment];
        let mut text = format!("<g style=\"isolation:isolate\" transform=\"{}\">", self.transform);
        for piece in &fragment.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Color(palette) => {
                    // `palettes` holds each palette of the pieces, and `colors` a value for each of them.
                    let value = fragment.palettes.iter().zip(&self.colors).find(|(known, _)| *known == palette);
                    text.push_str(value.map_or("none", |(palette, &value)| &style.palettes[*palette].values[value]));
                }
            }
        }
        text.push_str("</g>");
        text
    }
}

fn document(style: &Style, body: &str) -> String {
    let side = style.side;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{side}\" height=\"{side}\" viewBox=\"0 0 {side} {side}\"{}>{body}</svg>",
        style.root_attributes
    )
}
