//! The comparison as a page.

use maud::{Markup, html};

use super::{COLUMNS, Report, strip_name};
use crate::page::whole_page;

pub(super) fn page(report: &Report) -> Markup {
    let body = html! {
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
    };
    whole_page("ablation", body)
}
