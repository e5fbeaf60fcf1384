//! What the HTML pages share.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733; background: #fff; }
h1 { font-size: 1.6rem; margin-bottom: 0; } p.lead { color: #55606e; margin-top: .25rem; }
img { width: 100%; image-rendering: pixelated; border-radius: 6px; }
svg { width: 100%; height: auto; border: 1px solid #dde3ea; border-radius: 6px; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .9rem; border-bottom: 1px solid #dde3ea; } th:first-child, td:first-child { text-align: left; }
footer { color: #55606e; font-size: .85rem; margin-top: 2rem; }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e4e8ee; } th, td { border-color: #2c343e; } p.lead, footer { color: #9aa5b1; } }
";

/// A whole page that needs no other file but its pictures.
pub(crate) fn whole_page(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "SwinStyle: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}
