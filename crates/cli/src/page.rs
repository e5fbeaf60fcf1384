//! What the HTML pages share: one file that asks no other host for anything, for large and small screens, light and dark.

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use swinstyle_data::{Picture, picture::encode_png};

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fff; --ink: #1d2733; --faded: #55606e; --grid: #dde3ea; --panel: #f4f6f8; --accent: #1f5fbf; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --ink: #e4e8ee; --faded: #9aa5b1; --grid: #2b333d; --panel: #1b2128; --accent: #7fb0ff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 66rem; margin: 0 auto; padding: clamp(1rem, 4vw, 2.5rem) 1rem; color: var(--ink); background: var(--ground); }
h1 { font-size: clamp(1.5rem, 4.5vw, 2.1rem); line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .25rem; }
p { margin: .6rem 0; max-width: 46rem; overflow-wrap: anywhere; }
p.lead, figcaption, footer, .faded { color: var(--faded); }
img { max-width: 100%; height: auto; image-rendering: pixelated; border-radius: 6px; vertical-align: middle; }
a { color: var(--accent); }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll > svg { display: block; width: 100%; min-width: 44rem; height: auto; }
.scroll img.wide { min-width: 44rem; width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { text-align: right; padding: .35rem .8rem; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody tr:hover { background: var(--panel); }
pre { background: var(--panel); border: 1px solid var(--grid); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; line-height: 1.6; }
footer { font-size: .85rem; margin-top: 3rem; border-top: 1px solid var(--grid); padding-top: .75rem; }
";

/// A whole page that needs no other file but the pictures that it names; `style` is what it has beyond the others.
pub(crate) fn whole_page(title: &str, style: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "SwinStyle: " (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(style)) }
            }
            body { (body) }
        }
    }
}

/// What may be wider than a phone: it scrolls in a box of its own, and the page does not.
pub(crate) fn scrolling(wide: Markup) -> Markup {
    html! { div.scroll tabindex="0" { (wide) } }
}

/// A picture as the address of itself, so that the page can be sent as one file.
pub(crate) fn inlined(picture: &Picture) -> Result<String> {
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(encode_png(picture)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_for_phones_and_for_the_dark_and_asks_nobody() {
        let picture = inlined(&Picture::filled(2, 2, [1, 2, 3])).unwrap();
        let body = scrolling(html! { table { tr { td { img src=(picture) alt="two by two"; } } } });
        let page = whole_page("a < b", "p { color: red; }", body).into_string();
        for part in [
            "<!DOCTYPE html>",
            "<html lang=\"en\">",
            "name=\"viewport\" content=\"width=device-width",
            "prefers-color-scheme: dark",
            "color-scheme: light dark",
            "<title>SwinStyle: a &lt; b</title>",
            "<div class=\"scroll\" tabindex=\"0\"><table>",
            "src=\"data:image/png;base64,iVBORw0KGgo",
            "image-rendering: pixelated",
            "p { color: red; }",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for outside in ["http:", "https:", "@import", "url(", "src=\"//", "href="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
