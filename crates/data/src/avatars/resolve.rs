//! From a style's definition to a [`Style`]: references become indices, elements become SVG text with holes for colours.

use std::collections::BTreeMap;

use super::BACKGROUND;
use super::catalogue::Entry;
use super::definition::{self, AttributeValue, ColorReference, Definition, Element};
use super::style::{Component, Fragment, Palette, Part, Piece, Style, Variant};
use crate::{DataError, Label, Result};

/// Colours of the label PNGs, the same for a label in every style: the background as it is drawn, then hues that stay apart.
const LABEL_COLORS: &[(&str, [u8; 3])] = &[
    ("background", BACKGROUND),
    ("skin", [0xff, 0xc8, 0x9b]),
    ("clothes", [0x43, 0x63, 0xd8]),
    ("graphic", [0xff, 0xe1, 0x19]),
    ("mouth", [0xe6, 0x19, 0x4b]),
    ("eyes", [0xff, 0xff, 0xff]),
    ("eyebrows", [0x91, 0x1e, 0xb4]),
    ("hair", [0x7a, 0x4a, 0x1e]),
    ("hat", [0x3c, 0xb4, 0x4b]),
    ("facial_hair", [0xf5, 0x82, 0x31]),
    ("accessories", [0x00, 0x00, 0x00]),
    ("details", [0xf0, 0x32, 0xe6]),
    ("earrings", [0x46, 0xf0, 0xf0]),
];

/// A colour this close to the background in every channel vanishes in it: a light-blue shirt looks like no body at all.
const TOO_CLOSE: u8 = 16;

type Attributes = BTreeMap<String, AttributeValue>;

/// What a reference in the definition leads to, or why it leads nowhere.
type Resolved<T> = Result<T, String>;

pub(super) fn resolve(entry: &'static Entry) -> Result<Style> {
    let bad = |reason: String| DataError::BadStyle { style: entry.name.to_owned(), reason };
    let definition: Definition = serde_json::from_str(entry.json).map_err(|error| bad(error.to_string()))?;
    resolve_definition(entry, definition).map_err(bad)
}

fn resolve_definition(entry: &'static Entry, definition: Definition) -> Resolved<Style> {
    if definition.canvas.width != definition.canvas.height {
        return Err("the canvas is not square".to_owned());
    }
    let palettes = order_palettes(definition.colors)?;
    let mut resolver = Resolver {
        labels: number_labels(entry)?,
        component_names: definition.components.keys().cloned().collect(),
        palettes,
        fragments: Vec::new(),
        entry,
    };
    let root_attributes = resolver.root_attributes(&definition.attributes)?;
    let canvas = resolver.parts("", &definition.canvas.elements)?;
    let mut components = Vec::new();
    for (name, component) in definition.components {
        components.push(resolver.component(name, component)?);
    }
    for (component, variant) in entry.barred {
        let known = components.iter().any(|c| c.name == *component && c.variants.iter().any(|v| v.name == *variant));
        if !known {
            return Err(format!("the barred variant `{component}:{variant}` does not exist"));
        }
    }
    Ok(Style {
        name: entry.name,
        meta: definition.meta,
        side: definition.canvas.width,
        root_attributes,
        canvas,
        components,
        palettes: resolver.palettes,
        fragments: resolver.fragments,
        labels: resolver.labels,
    })
}

/// Sorts palettes so that each comes after those whose picks it has to avoid.
fn order_palettes(mut colors: BTreeMap<String, definition::Palette>) -> Resolved<Vec<Palette>> {
    let mut ordered: Vec<Palette> = Vec::new();
    while !colors.is_empty() {
        let position = |name: &String| ordered.iter().position(|palette| palette.name == *name);
        let is_free = |palette: &definition::Palette| {
            palette.not_equal_to.iter().all(|name| name == "background" || position(name).is_some())
        };
        let next = colors.iter().find(|(_, palette)| is_free(palette)).map(|(name, _)| name.clone());
        let Some(name) = next else {
            return Err("palettes avoid each other in a circle, or avoid one that does not exist".to_owned());
        };
        // `next` is a key of the map.
        let Some(palette) = colors.remove(&name) else { continue };
        let avoids_background = palette.not_equal_to.iter().any(|name| name == "background");
        let not_equal_to = palette.not_equal_to.iter().filter_map(position).collect();
        let mut values: Vec<String> = palette.values.iter().map(|value| value.to_lowercase()).collect();
        values.retain(|value| !(avoids_background && vanishes(value)));
        if values.is_empty() {
            return Err(format!("palette `{name}` is empty"));
        }
        ordered.push(Palette { name, not_equal_to, values });
    }
    Ok(ordered)
}

/// Whether a `#rrggbb` colour cannot be told from the background.
fn vanishes(color: &str) -> bool {
    let channel = |i: usize| color.get(1 + 2 * i..3 + 2 * i).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    (0..3).all(|i| channel(i).is_some_and(|value| value.abs_diff(BACKGROUND[i]) < TOO_CLOSE))
}

/// Numbers the labels of the catalogue in the order in which they are first named, after the background.
fn number_labels(entry: &Entry) -> Resolved<Vec<Label>> {
    let mut labels: Vec<Label> = Vec::new();
    for name in std::iter::once("background").chain(entry.labels.iter().map(|rule| rule.label)) {
        if labels.iter().any(|label| label.name == name) {
            continue;
        }
        let color = LABEL_COLORS.iter().find(|(known, _)| *known == name);
        let (name, color) = *color.ok_or_else(|| format!("label `{name}` has no colour"))?;
        labels.push(Label { index: labels.len() as u8, name: name.to_owned(), color });
    }
    Ok(labels)
}

struct Resolver {
    entry: &'static Entry,
    labels: Vec<Label>,
    component_names: Vec<String>,
    palettes: Vec<Palette>,
    fragments: Vec<Fragment>,
}

impl Resolver {
    fn component(&mut self, name: String, component: definition::Component) -> Resolved<Component> {
        let mut variants = Vec::new();
        for (variant, definition) in component.variants {
            let barred = self.entry.barred.contains(&(name.as_str(), variant.as_str()));
            let parts = self.parts(&name, &definition.elements)?;
            variants.push(Variant { name: variant, barred, parts });
        }
        if variants.iter().all(|variant| variant.barred) {
            return Err(format!("component `{name}` has no variant left to train on"));
        }
        Ok(Component { name, probability: component.probability, variants })
    }

    /// Cuts a list of elements into layers at the components it holds.
    fn parts(&mut self, component: &str, elements: &[Element]) -> Resolved<Vec<Part>> {
        let mut parts = Vec::new();
        for run in elements.chunk_by(|a, b| matches!((a, b), (Element::Element { .. }, Element::Element { .. }))) {
            if let [Element::Component { name, attributes }] = run {
                parts.push(self.nested(name, attributes)?);
            } else {
                parts.push(Part::Fragment(self.fragment(component, run)?));
            }
        }
        Ok(parts)
    }

    fn nested(&self, name: &str, attributes: &Attributes) -> Resolved<Part> {
        let component = self.component_names.iter().position(|known| known == name);
        let component = component.ok_or_else(|| format!("component `{name}` does not exist"))?;
        let mut transform = String::new();
        for (attribute, value) in attributes {
            match (attribute.as_str(), value) {
                ("transform", AttributeValue::Text(text)) => transform.clone_from(text),
                _ => {
                    return Err(format!(
                        "component `{name}` is placed with `{attribute}`; only transform is understood"
                    ));
                }
            }
        }
        Ok(Part::Component { component, transform })
    }

    fn fragment(&mut self, component: &str, elements: &[Element]) -> Resolved<usize> {
        let mut template = Template::default();
        for element in elements {
            self.write_element(element, &mut template)?;
        }
        let mut palettes: Vec<usize> = template.pieces.iter().filter_map(Piece::palette).collect();
        palettes.sort_unstable();
        palettes.dedup();
        let label = self.label(component, &palettes)?;
        self.fragments.push(Fragment { pieces: template.pieces, palettes, label });
        Ok(self.fragments.len() - 1)
    }

    fn label(&self, component: &str, palettes: &[usize]) -> Resolved<u8> {
        let uses = |name: &str| palettes.iter().any(|&palette| self.palettes[palette].name == name);
        let rule = self
            .entry
            .labels
            .iter()
            .find(|rule| rule.component == component && (rule.palette.is_empty() || uses(rule.palette)));
        let rule = rule.ok_or_else(|| format!("a variant of component `{component}` has no label"))?;
        // `number_labels` numbered every rule's label.
        let label = self.labels.iter().find(|label| label.name == rule.label);
        label.map(|label| label.index).ok_or_else(|| format!("label `{}` has no number", rule.label))
    }

    fn write_element(&self, element: &Element, template: &mut Template) -> Resolved<()> {
        let Element::Element { name, attributes, children } = element else {
            return Err("a component inside an SVG group is not understood".to_owned());
        };
        template.text("<");
        template.text(name);
        self.write_attributes(attributes, template)?;
        template.text(">");
        for child in children {
            self.write_element(child, template)?;
        }
        template.text("</");
        template.text(name);
        template.text(">");
        Ok(())
    }

    fn write_attributes(&self, attributes: &Attributes, template: &mut Template) -> Resolved<()> {
        for (name, value) in attributes {
            template.text(&format!(" {name}=\""));
            match value {
                AttributeValue::Text(text) => template.text(&escape(text)),
                AttributeValue::Color(ColorReference::Color { name }) => {
                    let palette = self.palettes.iter().position(|palette| palette.name == *name);
                    let palette = palette.ok_or_else(|| format!("palette `{name}` does not exist"))?;
                    template.pieces.push(Piece::Color(palette));
                }
            }
            template.text("\"");
        }
        Ok(())
    }

    fn root_attributes(&self, attributes: &Attributes) -> Resolved<String> {
        let mut template = Template::default();
        self.write_attributes(attributes, &mut template)?;
        template
            .pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(text),
                Piece::Color(_) => Err("a picked colour on the canvas itself is not understood".to_owned()),
            })
            .collect()
    }
}

impl Piece {
    fn palette(&self) -> Option<usize> {
        match self {
            Piece::Color(palette) => Some(*palette),
            Piece::Text(_) => None,
        }
    }
}

#[derive(Default)]
struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
