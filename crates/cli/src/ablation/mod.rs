//! What `swinstyle ablate` writes: a table, curves, pictures and a page.

mod curves;
mod page;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use swinstyle_data::{
    Picture,
    picture::{Sheet, write_atomic, write_png},
};
use swinstyle_tensor::Device;
use swinstyle_train::ablation::{AblationConfig, Examples, Measures, Row};

/// A trained row.
pub(crate) struct Outcome<'a> {
    pub(crate) row: &'a Row,
    pub(crate) measures: Measures,
    /// Milliseconds an image.
    pub(crate) ms: f64,
    /// Images shown and the mean squared error there.
    pub(crate) curve: Vec<[f64; 2]>,
    /// The first held-out portraits as it makes them.
    pub(crate) shown: Vec<Picture>,
}

/// The comparison so far.
pub(crate) struct Report<'a> {
    config: &'a AblationConfig,
    sources: Vec<Picture>,
    /// What the classifier finds in the sources.
    agreement: f64,
    device: Device,
    outcomes: Vec<Outcome<'a>>,
}

/// A row of the table: mean over seeds, and half of the range.
struct Line<'a> {
    row: &'a Row,
    seeds: usize,
    cells: Vec<String>,
}

/// Columns of numbers: heading, decimals, value.
type Column = (&'static str, usize, fn(&Outcome) -> f64);
const COLUMNS: [Column; 10] = [
    ("MSE", 4, |o| o.measures.mse),
    ("PSNR dB", 2, |o| o.measures.psnr),
    ("seen", 2, |o| o.measures.psnr_seen),
    ("unseen", 2, |o| o.measures.psnr_unseen),
    ("SSIM", 3, |o| o.measures.ssim),
    ("feature distance", 3, |o| o.measures.feature_distance),
    ("attributes %", 1, |o| 100.0 * o.measures.agreement),
    ("Fréchet", 2, |o| o.measures.frechet),
    ("parameters M", 2, |o| o.measures.parameters as f64 * 1e-6),
    ("ms an image", 1, |o| o.ms),
];

impl<'a> Report<'a> {
    /// What [`Report::write`] writes.
    pub(crate) const FILES: [&'static str; 5] =
        ["ablation.md", "index.html", "curves.svg", "grid.png", "ablation.json"];

    pub(crate) fn new(config: &'a AblationConfig, examples: &Examples, shown: usize, device: Device) -> Self {
        let sources = examples.pictures.iter().take(shown).cloned().collect();
        Self { config, sources, agreement: examples.agreement, device, outcomes: Vec::new() }
    }

    pub(crate) fn add(&mut self, outcome: Outcome<'a>) {
        self.outcomes.push(outcome);
    }

    /// Times taken together, in the order of the outcomes.
    pub(crate) fn set_times(&mut self, ms: &[f64]) {
        self.outcomes.iter_mut().zip(ms).for_each(|(o, ms)| o.ms = *ms);
    }

    fn lines(&self) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        for row in &self.config.rows {
            let of: Vec<&Outcome> = self.outcomes.iter().filter(|o| o.row.id == row.id).collect();
            if of.is_empty() {
                continue;
            }
            let cells = COLUMNS.map(|(_, decimals, value)| spread(of.iter().map(|o| value(o)), decimals)).to_vec();
            lines.push(Line { row, seeds: of.len(), cells });
        }
        lines
    }

    /// The table in Markdown, aligned for a terminal.
    pub(crate) fn table(&self) -> String {
        let heading: Vec<String> = ["encoder"].into_iter().chain(COLUMNS.map(|c| c.0)).map(String::from).collect();
        let mut rows = vec![heading];
        for line in self.lines() {
            let name = match line.seeds {
                1 => line.row.name.clone(),
                n => format!("{} ({n} seeds)", line.row.name),
            };
            rows.push([name].into_iter().chain(line.cells).collect());
        }
        let width = |k: usize| rows.iter().map(|r| r[k].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
        let mut text = String::new();
        for (i, row) in rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &w)| format!("{cell:<w$}")).collect();
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
            if i == 0 {
                let rules: Vec<String> = widths.iter().map(|&w| "-".repeat(w)).collect();
                text.push_str(&format!("| {} |\n", rules.join(" | ")));
            }
        }
        text.trim_end().to_string()
    }

    /// Everything as JSON.
    pub(crate) fn document(&self) -> Value {
        let rows: Vec<Value> = self
            .outcomes
            .iter()
            .map(|o| json!({ "id": o.row.id, "name": o.row.name, "measures": o.measures, "ms_per_image": o.ms, "curve": o.curve }))
            .collect();
        json!({
            "device": self.device.to_string(),
            "heldout": self.config.heldout,
            "classifier_agreement_on_the_portraits": self.agreement,
            "rows": rows,
        })
    }

    /// Writes all files anew.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        let text = |name: &str, text: String| -> Result<()> { Ok(write_atomic(&out.join(name), text.as_bytes())?) };
        text("ablation.md", format!("{}\n\n{}\n", self.table(), self.caption()))?;
        text("ablation.json", format!("{:#}\n", self.document()))?;
        let curves = curves::svg(&self.named_curves());
        text("index.html", page::page(self, &curves).into_string())?;
        text("curves.svg", curves)?;
        let firsts = self.firsts().into_iter().map(|o| (o.row.name.as_str(), &o.shown));
        let rows = std::iter::once(("held-out portraits", &self.sources)).chain(firsts);
        let mut sheet = Sheet::default();
        for (i, (name, pictures)) in rows.enumerate() {
            sheet.row(name, pictures.iter().cloned());
            let strip = Sheet::default().row("", pictures.iter().cloned()).render()?;
            write_png(&out.join(strip_name(i)), &strip)?;
        }
        write_png(&out.join("grid.png"), &sheet.render()?)?;
        Ok(())
    }

    /// The first seed of each row.
    fn firsts(&self) -> Vec<&Outcome<'a>> {
        let rows = self.config.rows.iter();
        rows.filter_map(|row| self.outcomes.iter().find(|o| o.row.id == row.id)).collect()
    }

    fn named_curves(&self) -> Vec<(&str, &[[f64; 2]])> {
        self.firsts().into_iter().map(|o| (o.row.name.as_str(), o.curve.as_slice())).collect()
    }

    fn caption(&self) -> String {
        format!(
            "{} held-out portraits, seed {}, on {}. MSE of images in [−1, 1], SSIM in [0, 1] (Gaussian windows of 11 × 11, σ 1.5); seen and unseen: PSNR of portraits without and with a variant that training never shows. \
             Attributes: share of true attributes that a classifier finds in the reconstructions (in the portraits themselves {:.1} %). Feature distance and \
             Fréchet distance are in that classifier's features. Times are of source to reconstruction at a batch of 32, the encoders taking turns. ± is half of the range over seeds.",
            self.config.heldout.images,
            self.config.heldout.seed,
            self.device,
            100.0 * self.agreement
        )
    }
}

/// File of the i-th strip of portraits; the sources are the first.
fn strip_name(i: usize) -> String {
    format!("strip-{i:02}.png")
}

/// The mean, and with several values half of their range.
fn spread(values: impl Iterator<Item = f64>, decimals: usize) -> String {
    let values: Vec<f64> = values.collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    match values.len() {
        1 => format!("{mean:.decimals$}"),
        _ => format!("{mean:.decimals$} ± {:.decimals$}", (high - low) / 2.0),
    }
}

/// The mean squared error over a run, from its metrics: images shown and error.
pub(crate) fn curve(metrics: &Path) -> Result<Vec<[f64; 2]>> {
    let text = fs::read_to_string(metrics).with_context(|| format!("{} cannot be read", metrics.display()))?;
    let point = |line: &str| -> Option<[f64; 2]> {
        let v: Value = serde_json::from_str(line).ok()?;
        Some([v.get("images")?.as_f64()?, v.get("l2")?.as_f64()?])
    };
    Ok(text.lines().filter_map(point).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_has_no_spread_and_several_have_half_their_range() {
        assert_eq!(spread([1.25].into_iter(), 2), "1.25");
        assert_eq!(spread([1.0, 2.0, 1.5].into_iter(), 1), "1.5 ± 0.5");
    }
}
