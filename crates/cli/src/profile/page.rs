//! The profile as a page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Profile;

const CSS: &str = "
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733; background: #fff; }
h1 { font-size: 1.6rem; margin-bottom: 0; } p.lead { color: #55606e; margin-top: .25rem; }
svg { width: 100%; height: auto; border: 1px solid #dde3ea; border-radius: 6px; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .9rem; border-bottom: 1px solid #dde3ea; } th:first-child, td:first-child { text-align: left; }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e4e8ee; } th, td { border-color: #2c343e; } p.lead { color: #9aa5b1; } }
";

pub(super) fn page(p: &Profile, picture: String) -> Markup {
    let title = format!("{} on {}", p.what, p.device);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "SwinStyle: " (title) }
                style { (PreEscaped(CSS)) }
            }
            body {
                h1 { (title) }
                p.lead {
                    "A pass takes " (format!("{:.2}", p.pass_ms)) " ms. Its " (p.launches) " launches take " (format!("{:.2}", p.kernels_ms))
                    " ms when each is waited for; they do " (format!("{:.2}", p.flops as f64 * 1e-9)) " GFLOP and move "
                    (format!("{:.1}", p.bytes as f64 / f64::from(1 << 20))) " MiB at least. Ceilings of this run: " (p.ceilings) "."
                }
                (PreEscaped(picture))
                table {
                    tr { th { "kernel" } th { "launches" } th { "ms" } th { "share" } th { "GFLOP/s" } th { "GB/s" } th { "of the roofline" } }
                    @for r in &p.kernels {
                        tr {
                            td { (r.kernel) } td { (r.launches) } td { (format!("{:.3}", r.ms)) } td { (format!("{:.1} %", 100.0 * r.share)) }
                            td { (format!("{:.1}", r.gflops)) } td { (format!("{:.1}", r.gbs)) } td { (format!("{:.0} %", 100.0 * r.roofline)) }
                        }
                    }
                }
                p.lead { "trace.json beside this page opens in Perfetto (ui.perfetto.dev) or chrome://tracing." }
            }
        }
    }
}
