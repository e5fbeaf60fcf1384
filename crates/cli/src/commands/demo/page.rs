//! The demo's page: portraits to compare with their inversions, numbers, edits, faces, and how to go on.

use anyhow::Result;
use maud::{Markup, PreEscaped, html};
use swinstyle_data::Picture;

use super::{BATCH, DIFFERENCE_GAIN, Means, Shown, showcase::Table};
use crate::{
    page::{inlined, scrolling, whole_page},
    text::grouped,
};

const STYLE: &str = "
.hero { display: grid; grid-template-columns: minmax(0, 26rem) minmax(0, 1fr); gap: clamp(1rem, 4vw, 2.5rem); align-items: center; margin: 1.5rem 0; }
@media (max-width: 46rem) { .hero { grid-template-columns: minmax(0, 1fr); } }
.compare { --at: 50%; position: relative; aspect-ratio: 1; border-radius: 14px; overflow: hidden; touch-action: pan-y; }
.compare img { position: absolute; inset: 0; width: 100%; height: 100%; border-radius: 0; }
.compare .source { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.compare::after { content: ''; position: absolute; inset: 0 auto 0 var(--at); width: 3px; margin-left: -1.5px; background: #fff; box-shadow: 0 0 3px #0009; pointer-events: none; }
.compare input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.compare:focus-within { outline: 3px solid var(--accent); outline-offset: 2px; }
.compare b { position: absolute; bottom: .6rem; font: 600 .8rem/1.5 system-ui, sans-serif; background: #101418c0; color: #fff; padding: 0 .6em; border-radius: 1em; pointer-events: none; }
.compare b:first-of-type { left: .6rem; } .compare b:last-of-type { right: .6rem; }
dl { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; margin: 1.25rem 0 0; }
dd { margin: 0; font-size: clamp(1.4rem, 4vw, 1.9rem); font-weight: 650; line-height: 1.15; font-variant-numeric: tabular-nums; } dd small { font-size: .55em; font-weight: 500; }
dt { color: var(--faded); font-size: .85rem; }
dl div { display: flex; flex-direction: column-reverse; justify-content: start; }
.triples { display: grid; grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr)); gap: 1rem; margin: 1rem 0; }
.triples button { all: unset; cursor: pointer; display: block; border-radius: 8px; }
.triples button:hover, .triples button:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; }
.triples span { display: grid; grid-template-columns: repeat(3, 1fr); gap: 4px; } .triples img { width: 100%; }
.triples small { color: var(--faded); }
table.tiles td, table.tiles th { border: 0; padding: 2px; text-align: left; font-weight: 500; font-size: .85rem; color: var(--faded); white-space: normal; vertical-align: bottom; }
table.tiles tbody tr:hover { background: none; } table.tiles img { width: 7.5rem; max-width: none; }
pre i { font-style: normal; color: var(--faded); }
";

/// Moves the edge between the two pictures, and puts the pictures of a clicked triple there.
const SCRIPT: &str = "
const hero = document.querySelector('.compare'), [made, source] = hero.querySelectorAll('img'), said = document.querySelector('#said');
hero.querySelector('input').addEventListener('input', e => hero.style.setProperty('--at', e.target.value + '%'));
document.querySelectorAll('.triples button').forEach(b => b.addEventListener('click', () => {
  const [s, m] = b.querySelectorAll('img');
  source.src = s.src; made.src = m.src; said.textContent = b.querySelector('small').textContent;
  hero.scrollIntoView({ behavior: 'smooth', block: 'center' });
}));
";

/// What to type next, with what it does.
const NEXT: [(&str, &str); 5] = [
    ("your own pictures", "target/release/swinstyle invert portrait.png --out inverted"),
    ("portraits to play with", "target/release/swinstyle data avatars --split heldout --count 16 --out portraits"),
    ("directions of editing, and how good they are", "target/release/swinstyle directions attributes --out directions"),
    (
        "darker and lighter hair",
        "target/release/swinstyle edit portraits/images/*.png --direction directions/hair.safetensors --strength -2,-1,1,2 --out edited",
    ),
    ("everything else", "target/release/swinstyle --help"),
];

/// What the page tells.
pub(super) struct Told<'a> {
    pub(super) shown: &'a [Shown],
    pub(super) all: &'a Means,
    pub(super) seen: &'a Means,
    pub(super) unseen: &'a Means,
    /// Count of training portraits and the mean PSNR of the nearest of them.
    pub(super) nearest: Option<(u64, f64)>,
    pub(super) ms_per_image: f64,
    pub(super) device: String,
    pub(super) edited: &'a Table,
    pub(super) faces: Option<&'a Table>,
    /// Lines about the model, the portraits and the style's authors.
    pub(super) made_with: [String; 3],
}

pub(super) fn page(told: &Told) -> Result<Markup> {
    let body = html! {
        h1 { "Portraits, found again in a generator" }
        p.lead {
            "SwinStyleformer reads a portrait and finds the code from which StyleGAN2 draws it again. No training saw these portraits."
        }
        (hero(told)?)
        h2 { "One by one" }
        p.lead { "Source, inversion, and their difference " (DIFFERENCE_GAIN) " times amplified. Click one to compare it above." }
        div.triples { @for shown in told.shown { (triple(shown)?) } }
        h2 { "Numbers" }
        (scrolling(numbers(told)))
        p.faded {
            "“Mean image” is the PSNR of the mean training portrait in the inversion's place: what an inversion must beat. MSE is of images in [−1, 1], SSIM of "
            "images in [0, 1]. One image takes " (format!("{:.1}", told.ms_per_image)) " ms on " (told.device) " at batch " (BATCH) "."
            @if let Some((count, psnr)) = told.nearest {
                " The nearest of " (grouped(count)) " training portraits is at " (format!("{psnr:.2}")) " dB."
            }
        }
        h2 { "Edited" }
        p.lead { "The code moved along directions that are found from the attributes of training portraits." }
        (scrolling(tiles(told.edited)?))
        @if let Some(faces) = told.faces {
            h2 { "Faces from label maps" }
            p.lead {
                "A label map, what its encoder makes of it, the same with random fine layers, and the portrait that the map is of: its colours are not in the map."
            }
            (scrolling(tiles(faces)?))
        }
        h2 { "Go on" }
        pre { @for (what, command) in NEXT { i { "# " (what) "\n" } (command) "\n" } }
        footer { @for line in &told.made_with { p { (line) } } }
        script { (PreEscaped(SCRIPT)) }
    };
    Ok(whole_page("inverted portraits", STYLE, body))
}

/// The pair that is neither the best nor the worst of those shown, large, with an edge to move between the two, and the main numbers.
fn hero(told: &Told) -> Result<Markup> {
    let mut order: Vec<&Shown> = told.shown.iter().collect();
    order.sort_by(|a, b| a.psnr.total_cmp(&b.psnr));
    let Some(typical) = order.get(order.len() / 2) else { return Ok(html! {}) };
    let (source, made) = (inlined(&typical.source)?, inlined(&typical.made)?);
    let facts = [
        (
            "PSNR; the mean training image has ".to_string() + &format!("{:.1} dB", told.all.baseline_psnr),
            format!("{:.1}", told.all.psnr),
            "dB",
        ),
        ("SSIM".to_string(), format!("{:.3}", told.all.ssim), ""),
        (format!("an image, on {}", told.device), format!("{:.1}", told.ms_per_image), "ms"),
        ("inverted for these means".to_string(), grouped(told.all.images as u64), "portraits"),
    ];
    Ok(html! {
        div.hero {
            figure style="margin: 0" {
                div.compare {
                    img.made src=(made) alt="The portrait as the generator draws it from the code";
                    img.source src=(source) alt="The portrait";
                    input type="range" min="0" max="100" value="50" aria-label="Edge between source and inversion, in percent";
                    b { "source" }
                    b { "inverted" }
                }
                figcaption { span id="said" { (caption(typical)) } ". Drag the edge between the two." }
            }
            dl { @for (what, number, unit) in &facts { div { dt { (what) } dd { (number) " " small { (unit) } } } } }
        }
    })
}

fn caption(shown: &Shown) -> String {
    format!("{}: {:.1} dB", shown.name, shown.psnr)
}

fn triple(shown: &Shown) -> Result<Markup> {
    let pictures = [("portrait", &shown.source), ("inversion", &shown.made), ("difference", &shown.difference)];
    let pictures = pictures.map(|(what, picture)| Ok((what, inlined(picture)?)));
    let pictures = pictures.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(html! {
        button type="button" {
            span { @for (what, address) in &pictures { img src=(address) alt=(format!("{}: {what}", shown.name)) width="64" height="64"; } }
            small { (caption(shown)) }
        }
    })
}

fn numbers(told: &Told) -> Markup {
    let row = |name: &str, m: &Means| {
        html! {
            tr {
                td { (name) } td { (grouped(m.images as u64)) } td { (format!("{:.2}", m.psnr)) } td { (format!("{:.2}", m.baseline_psnr)) }
                td { (format!("{:.4}", m.mse)) } td { (format!("{:.3}", m.ssim)) }
            }
        }
    };
    html! {
        table {
            thead { tr { th { "portraits" } th { "count" } th { "PSNR dB" } th { "mean image dB" } th { "MSE" } th { "SSIM" } } }
            tbody {
                (row("all", told.all))
                (row("of variants seen in training", told.seen))
                (row("with a variant never seen", told.unseen))
            }
        }
    }
}

fn tiles(table: &Table) -> Result<Markup> {
    let cell = |picture: &Picture| inlined(picture);
    let rows = table.rows.iter().map(|row| row.iter().map(cell).collect::<Result<Vec<_>>>());
    let rows = rows.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        table.tiles {
            thead { tr { @for heading in &table.headings { th { (heading) } } } }
            tbody {
                @for row in &rows {
                    tr { @for (address, heading) in row.iter().zip(&table.headings) { td { img src=(address) alt=(heading); } } }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_pair_and_needs_no_other_file() {
        let shown: Vec<Shown> = (0..3)
            .map(|i| Shown {
                name: format!("portrait {i}"),
                source: Picture::filled(8, 8, [i, 0, 0]),
                made: Picture::filled(8, 8, [0, i, 0]),
                difference: Picture::filled(8, 8, [0, 0, i]),
                psnr: f64::from(20 + i),
            })
            .collect();
        let means = Means { images: 1256, psnr: 24.11, mse: 0.0123, ssim: 0.797, baseline_psnr: 14.5 };
        let table = Table {
            headings: vec!["source".into(), "hair +2".into()],
            rows: vec![vec![Picture::filled(8, 8, [9; 3]); 2]],
        };
        let told = Told {
            shown: &shown,
            all: &means,
            seen: &means,
            unseen: &means,
            nearest: Some((5000, 20.5)),
            ms_per_image: 9.84,
            device: "cpu".into(),
            edited: &table,
            faces: None,
            made_with: ["model".into(), "portraits".into(), "by <somebody>".into()],
        };
        let page = page(&told).unwrap().into_string();
        // Three pictures a triple, two of the hero, two tiles.
        assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 3 * 3 + 2 + 2);
        assert_eq!(page.matches(" src=\"").count(), page.matches(" src=\"data:").count());
        assert_eq!(page.matches(" alt=\"").count(), page.matches("<img").count());
        // The middle one is shown large.
        assert!(page.contains("id=\"said\">portrait 1: 21.0 dB"), "{page}");
        for part in ["24.11", "1,256", "hair +2", "5,000", "swinstyle invert", "by &lt;somebody&gt;", "type=\"range\""]
        {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("Faces from label maps") && !page.contains("http"));
    }
}
