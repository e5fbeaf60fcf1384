//! The comparison as a page.

use maud::{Markup, PreEscaped, html};

use super::{COLUMNS, Report, strip_name};
use crate::page::{scrolling, whole_page};

/// `curves` is the SVG document.
pub(super) fn page(report: &Report, curves: &str) -> Markup {
    let numbers = html! {
        table {
            thead { tr { th { "encoder" } @for c in &COLUMNS { th { (c.0) } } } }
            tbody {
                @for line in report.lines() {
                    tr { td { (line.row.name) } @for cell in &line.cells { td { (cell) } } }
                }
            }
        }
    };
    let pictures = |name: &str, i: usize| {
        html! {
            p { strong { (name) } }
            (scrolling(html! { img.wide src=(strip_name(i)) alt=(format!("Portraits: {name}")); }))
        }
    };
    let body = html! {
        h1 { "Ablation" }
        p.lead { "Encoders that differ in one part each, trained alike, on portraits that no training saw." }
        (scrolling(numbers))
        p { (report.caption()) }
        h2 { "Training" }
        (scrolling(html! { (PreEscaped(curves)) }))
        h2 { "Pictures" }
        (pictures("held-out portraits", 0))
        @for (i, outcome) in report.firsts().iter().enumerate() { (pictures(&outcome.row.name, i + 1)) }
    };
    whole_page("ablation", "", body)
}
