//! What else the demo shows: portraits edited along directions, and faces drawn from label maps.

use anyhow::Result;
use swinstyle_data::{
    LabelMap, Picture,
    picture::{Sheet, psnr},
};
use swinstyle_models::Model;
use swinstyle_tensor::{Device, Tensor};
use swinstyle_train::{Task, task::one_hot};
use swinstyle_weights::{Archive, Array};

use super::{
    codes::pictures,
    directions::of_attributes,
    model::{FACES, find},
    tasks::Sampling,
};
use crate::output::Output;

/// Attributes that the demo moves.
pub(super) const EDITS: [&str; 2] = ["hair", "skin"];
/// Strengths of the moves.
pub(super) const STRENGTHS: [f64; 2] = [-2.0, 2.0];
/// Training portraits whose attributes give the directions.
const LABELLED: u64 = 400;

/// Pictures in columns, for a sheet and for the page.
pub(super) struct Table {
    pub(super) headings: Vec<String>,
    pub(super) rows: Vec<Vec<Picture>>,
}

impl Table {
    pub(super) fn sheet(&self) -> Result<Picture> {
        let mut sheet = Sheet::new(self.headings.iter().map(String::as_str));
        for row in &self.rows {
            sheet.row("", row.iter().cloned());
        }
        Ok(sheet.render()?)
    }
}

/// A row a portrait: source, inversion, then each attribute at each strength.
pub(super) fn edited(
    output: Output,
    model: &Model,
    portraits: &[(&Picture, &Array)], // at the generator's size, with their codes [n_styles, D]
    device: Device,
) -> Result<Table> {
    let directions = of_attributes(output, model, &EDITS, LABELLED, device)?;
    let moved = EDITS.iter().flat_map(|name| STRENGTHS.map(|s| format!("{name} {s:+}")));
    let headings = ["source".to_string(), "inverted".to_string()].into_iter().chain(moved).collect();
    let mut rows = Vec::new();
    for (source, code) in portraits {
        let shape = [&[1], &code.shape[..]].concat();
        let own = Tensor::from_vec(code.data.clone(), &shape, device)?;
        let mut all = vec![own.clone()];
        for (direction, strength) in directions.iter().flat_map(|d| STRENGTHS.map(|s| (d, s))) {
            all.push(direction.apply(&own, strength, None)?);
        }
        let mut row = vec![(*source).clone()];
        row.extend(pictures(model, &all)?);
        rows.push(row);
    }
    Ok(Table { headings, rows })
}

/// Faces from label maps.
pub(super) struct Faces {
    /// A row a portrait: label map, answers, the portrait that the map is of.
    pub(super) table: Table,
    /// Mean PSNR of the first answers, in dB.
    pub(super) psnr: f64,
}

/// Faces by the encoder of label maps that comes with the repository; a note and nothing where it is not there or is of another generator.
pub(super) fn faces(
    output: Output,
    model: &Model,
    portraits: &[(&Picture, LabelMap)], // at the encoder's size
    device: Device,
) -> Result<Option<Faces>> {
    let left_out = |why: String| {
        output.note(format_args!("faces from label maps are left out: {why}"));
        Ok(None)
    };
    let Some(path) = find(FACES) else { return left_out(format!("{FACES} was not found")) };
    let with_encoder = match model.clone().with_encoder(&Archive::read(&path)?) {
        Ok(model) => model,
        Err(error) => return left_out(error.to_string()),
    };
    let Task::Segmentation { labels, .. } = Task::of(&with_encoder)? else {
        return left_out(format!("{} reads no label maps", path.display()));
    };
    let sampling = Sampling::default();
    let columns = ["label map".to_string()].into_iter().chain(sampling.columns()).chain(["portrait".to_string()]);
    let (mut rows, mut sum) = (Vec::new(), 0.0);
    for (portrait, map) in portraits {
        let input = one_hot(&map.labels, labels.len(), &[1, map.size, map.size, 1], device)?;
        let answers = pictures(&with_encoder, &sampling.codes(&with_encoder, &input)?)?;
        if (answers[0].width, answers[0].height) != (portrait.width, portrait.height) {
            return left_out(format!("{} is of another size than the model", path.display()));
        }
        sum += psnr(&portrait.to_f32(), &answers[0].to_f32())?;
        let mut row = vec![map.picture(&labels)];
        row.extend(answers);
        row.push((*portrait).clone());
        rows.push(row);
    }
    Ok(Some(Faces { table: Table { headings: columns.collect(), rows }, psnr: sum / portraits.len().max(1) as f64 }))
}
