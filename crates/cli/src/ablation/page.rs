//! The comparison as a page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{COLUMNS, Report, strip_name};
use crate::output::PAGE_STYLE;

pub(super) fn page(report: &Report) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "SwinStyle: ablation" }
                style { (PreEscaped(PAGE_STYLE)) }
            }
            body {
                h1 { "Ablation" }
                p.lead { "Encoders that differ in one part each, trained alike, on portraits that no training saw." }
                table {
                    tr { th { "encoder" } @for c in &COLUMNS { th { (c.0) } } }
                    @for line in report.lines() {
                        tr { td { (line.row.name) } @for cell in &line.cells { td { (cell) } } }
                    }
                }
                p { (report.caption()) }
                table {
                    tr { td { "portraits" } td { img src=(strip_name(0)) alt="held-out portraits"; } }
                    @for (i, outcome) in report.firsts().iter().enumerate() {
                        tr { td { (outcome.row.name) } td { img src=(strip_name(i + 1)) alt=(outcome.row.name); } }
                    }
                }
                img src="curves.svg" alt="Mean squared error over training images";
            }
        }
    }
}
