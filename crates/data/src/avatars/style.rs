//! A style, resolved once: components with their variants as SVG templates, palettes, labels.

use std::sync::Arc;

use super::catalogue::CATALOGUE;
use super::definition::Meta;
use super::resolve::resolve;
use crate::{DataError, Label, Result};

/// A portrait style, ready to be sampled and drawn.
pub struct Style {
    pub(super) name: &'static str,
    pub(super) meta: Meta,
    /// The side of the square canvas, in SVG units.
    pub(super) side: f32,
    pub(super) root_attributes: String,
    pub(super) canvas: Vec<Part>,
    pub(super) components: Vec<Component>,
    pub(super) palettes: Vec<Palette>,
    pub(super) fragments: Vec<Fragment>,
    pub(super) labels: Vec<Label>,
}

pub(super) struct Component {
    pub name: String,
    /// In percent.
    pub probability: f64,
    pub variants: Vec<Variant>,
}

pub(super) struct Variant {
    pub name: String,
    /// Never drawn in the `train` split.
    pub barred: bool,
    pub parts: Vec<Part>,
}

pub(super) struct Palette {
    pub name: String,
    /// Palettes that come before this one in the order of picking.
    pub not_equal_to: Vec<usize>,
    pub values: Vec<String>,
}

/// What is drawn, in order, from the bottom up.
pub(super) enum Part {
    Fragment(usize),
    Component { component: usize, transform: String },
}

/// A run of SVG elements with holes for colours: one layer of the picture.
pub(super) struct Fragment {
    pub pieces: Vec<Piece>,
    /// The palettes of its holes, sorted, each once.
    pub palettes: Vec<usize>,
    pub label: u8,
}

pub(super) enum Piece {
    Text(String),
    Color(usize),
}

impl Style {
    /// The styles that can be drawn, the default first.
    pub const NAMES: [&str; 3] = ["avataaars", "toon-head", "adventurer"];

    /// Parses the style of this name.
    ///
    /// # Errors
    /// [`DataError::UnknownStyle`] names the styles there are.
    pub fn named(name: &str) -> Result<Arc<Self>> {
        match CATALOGUE.iter().find(|entry| entry.name == name) {
            Some(entry) => Ok(Arc::new(resolve(entry)?)),
            None => Err(DataError::UnknownStyle { name: name.to_owned() }),
        }
    }

    /// The style's name, as on the command line.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The labels of [`super::Renderer::mask`]; a label's index is its place here, and 0 is the background.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The sentence that the style's licence asks to be shown: remix of what, by whom, under which licence.
    pub fn attribution(&self) -> &str {
        &self.meta.license.text
    }

    /// The licence's name and address.
    pub fn license(&self) -> (&str, &str) {
        (&self.meta.license.name, &self.meta.license.url)
    }

    /// The creator's name and address.
    pub fn creator(&self) -> (&str, &str) {
        (&self.meta.creator.name, &self.meta.creator.url)
    }

    /// The variants that the `train` split never draws, as `component:variant`.
    pub fn barred_variants(&self) -> Vec<String> {
        let barred = |component: &Component| {
            let names = component.variants.iter().filter(|variant| variant.barred);
            names.map(|variant| format!("{}:{}", component.name, variant.name)).collect::<Vec<_>>()
        };
        self.components.iter().flat_map(barred).collect()
    }
}
