//! The profile as a page.

use maud::{Markup, PreEscaped, html};

use super::Profile;
use crate::{
    page::{scrolling, whole_page},
    text::{bytes, count},
};

pub(super) fn page(p: &Profile, picture: String) -> Markup {
    let title = format!("{} on {}", p.what, p.device);
    let body = html! {
        h1 { (title) }
        p.lead {
            "A pass takes " (format!("{:.2}", p.pass_ms)) " ms. Its " (count(p.launches as u64, "launch")) " take " (format!("{:.2}", p.kernels_ms))
            " ms when each is waited for; they do " (format!("{:.2}", p.flops as f64 * 1e-9)) " GFLOP and move "
            (bytes(p.bytes)) " at least. Ceilings of this run: " (p.ceilings) "."
        }
        @for note in &p.notes { p.lead { "Note: " (note) "." } }
        p.lead { "Memory and the way to the device: " (p.steady) "." }
        (scrolling(html! { (PreEscaped(picture)) }))
        (scrolling(html! { table {
            thead { tr { th { "kernel" } th { "launches" } th { "ms" } th { "share" } th { "GFLOP/s" } th { "GB/s" } th { "of the roofline" } } }
            tbody { @for r in &p.kernels {
                tr {
                    td { (r.kernel) } td { (r.launches) } td { (format!("{:.3}", r.ms)) } td { (format!("{:.1} %", 100.0 * r.share)) }
                    td { (format!("{:.1}", r.gflops)) } td { (format!("{:.1}", r.gbs)) } td { (format!("{:.0} %", 100.0 * r.roofline)) }
                }
            } }
        } }))
        p.lead { "trace.json beside this page opens in Perfetto (ui.perfetto.dev) or chrome://tracing." }
    };
    whole_page(&title, "", body)
}
