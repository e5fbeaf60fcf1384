//! SVG charts that follow light and dark: a frame with two axes, and what is drawn in it.

use std::fmt::{Display, Write as _};

use crate::text::grouped;

/// Colours by the reader's preference, also where the file is opened by itself; the ground stays the page's.
const STYLE: &str = "\
.chart{color-scheme:light dark;--ground:#fff;--ink:#1d2733;--faded:#55606e;--grid:#e3e7ec;--tone:42%}\
@media(prefers-color-scheme:dark){.chart{--ground:#14181d;--ink:#e4e8ee;--faded:#9aa5b1;--grid:#2b333d;--tone:68%}}\
.chart text{fill:var(--ink)}.chart .tick{fill:var(--faded)}.chart .grid{stroke:var(--grid)}\
.chart .line{stroke:var(--ink);stroke-width:1.5;fill:none}.chart .lead{stroke:var(--faded);stroke-width:.8}\
.chart .halo{stroke:var(--ground);stroke-width:3px;paint-order:stroke;stroke-linejoin:round}\
.chart .curve{stroke:hsl(var(--hue) 62% var(--tone));stroke-width:2;stroke-linejoin:round;fill:none}\
.chart .dot{fill:hsl(var(--hue) 62% var(--tone))}\
.chart .bubble{fill:hsl(var(--hue) 65% 50%/.5);stroke:hsl(var(--hue) 62% var(--tone))}";

/// Around the frame: top, bottom, left.
const MARGIN: [f64; 3] = [20.0, 50.0, 70.0];
/// Right of the frame, where nothing else stands there.
pub(crate) const RIGHT: f64 = 20.0;

/// A range of values along one side of the frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    /// The ends; of a logarithmic axis their logarithms.
    from: f64,
    to: f64,
    logarithmic: bool,
    /// Where the ends are, in pixels.
    start: f64,
    end: f64,
}

impl Axis {
    pub(crate) fn linear(from: f64, to: f64) -> Self {
        Self { from, to, logarithmic: false, start: 0.0, end: 1.0 }
    }

    pub(crate) fn logarithmic(from: f64, to: f64) -> Self {
        Self { from: from.log10(), to: to.log10(), logarithmic: true, start: 0.0, end: 1.0 }
    }

    /// The place of a value, in pixels; values beyond the ends are at the ends.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(1e-300).log10() } else { value };
        let t = (value - self.from) / (self.to - self.from);
        self.start + t.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Values that are written beside the axis: 1, 2 and 5 times powers of ten, or these powers alone where they are enough.
    fn ticks(&self) -> Vec<f64> {
        let within = |v: f64| {
            let v = if self.logarithmic { v.log10() } else { v };
            v >= self.from - 1e-9 && v <= self.to + 1e-9
        };
        if self.logarithmic {
            let powers = self.from.floor() as i32..=self.to.ceil() as i32;
            let factors: &[f64] = if self.to - self.from > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let all = powers.flat_map(|p| factors.iter().map(move |f| f * 10_f64.powi(p)));
            return all.filter(|v| within(*v)).collect();
        }
        let rough = (self.to - self.from) / 6.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
        let first = (self.from / step).ceil() as i64;
        (first..first + 12).map(|i| i as f64 * step).filter(|v| within(*v)).collect()
    }
}

/// A value beside an axis, with the decimals that it has.
fn tick_text(value: f64) -> String {
    if value >= 1.0 && value.fract() < 1e-9 {
        return grouped(value as u64);
    }
    let decimals = if value > 0.0 { (-value.log10().floor()).max(1.0) as usize } else { 0 };
    format!("{value:.decimals$}")
}

/// A text in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A chart that is being drawn.
pub(crate) struct Chart {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// The document so far.
    svg: String,
}

impl Chart {
    /// The frame with grid, ticks and the axes' names, and so many pixels right of it; `name` is read out where the chart cannot be seen.
    pub(crate) fn new(
        name: &str,
        [width, height]: [f64; 2],
        right: f64,
        [x, y]: [Axis; 2],
        [x_name, y_name]: [&str; 2],
    ) -> Self {
        let [top, bottom, left] = MARGIN;
        let x = Axis { start: left, end: width - right, ..x };
        let y = Axis { start: height - bottom, end: top, ..y };
        let name = escaped(name);
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{name}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\"><title>{name}</title><style>{STYLE}</style>\n"
        );
        let mut chart = Self { x, y, svg };
        for value in x.ticks() {
            let at = x.at(value);
            chart.line([at, y.start], [at, y.end], "grid");
            chart.text([at, y.start + 18.0], "tick", "middle", &tick_text(value));
        }
        for value in y.ticks() {
            let at = y.at(value);
            chart.line([x.start, at], [x.end, at], "grid");
            chart.text([x.start - 8.0, at + 4.0], "tick", "end", &tick_text(value));
        }
        chart.text([(x.start + x.end) / 2.0, height - 10.0], "name", "middle", x_name);
        let middle = (y.start + y.end) / 2.0;
        chart.put(format_args!(
            "<text transform=\"translate(18 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(y_name)
        ));
        chart
    }

    /// Left, top, right, bottom of what is drawn in.
    pub(crate) fn frame(&self) -> [f64; 4] {
        [self.x.start, self.y.end, self.x.end, self.y.start]
    }

    fn put(&mut self, element: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.svg, "{element}");
    }

    pub(crate) fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], class: &str) {
        self.put(format_args!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"));
    }

    /// A line of text; `anchor` says which end of it is at the place: start, middle or end.
    pub(crate) fn text(&mut self, [x, y]: [f64; 2], class: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    pub(crate) fn polyline(&mut self, places: &[[f64; 2]], class: &str, hue: f64) {
        let places: Vec<String> = places.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        self.put(format_args!(
            "<polyline class=\"{class}\" style=\"--hue:{hue:.0}\" points=\"{}\"/>",
            places.join(" ")
        ));
    }

    pub(crate) fn circle(&mut self, [x, y]: [f64; 2], radius: f64, class: &str, hue: f64) {
        self.put(format_args!(
            "<circle class=\"{class}\" style=\"--hue:{hue:.0}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>"
        ));
    }

    /// The document.
    pub(crate) fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        for (axis, expected) in [
            (Axis::linear(0.0, 10_000.0), "0 2,000 4,000 6,000 8,000 10,000"),
            (Axis::linear(0.0, 1.0), "0 0.2 0.4 0.6 0.8 1"),
            (Axis::linear(0.0, 32.0), "0 10 20 30"),
            (Axis::logarithmic(0.01, 1000.0), "0.01 0.1 1 10 100 1,000"),
            (Axis::logarithmic(0.06, 0.7), "0.1 0.2 0.5"),
            (Axis::logarithmic(0.009, 0.012), "0.01"),
        ] {
            let texts: Vec<String> = axis.ticks().into_iter().map(tick_text).collect();
            assert_eq!(texts.join(" "), expected);
        }
    }

    #[test]
    fn values_have_their_places_and_stay_in_the_frame() {
        let axes = [Axis::linear(0.0, 10.0), Axis::logarithmic(1.0, 100.0)];
        let chart = Chart::new("a & b", [400.0, 200.0], RIGHT, axes, ["x", "<y>"]);
        let [left, top, right, bottom] = chart.frame();
        assert_eq!((chart.x.at(5.0), chart.y.at(10.0)), ((left + right) / 2.0, (top + bottom) / 2.0));
        assert_eq!((chart.x.at(-3.0), chart.y.at(0.0), chart.y.at(1e9)), (left, bottom, top));
        let svg = chart.finish();
        assert!(svg.contains("&lt;y&gt;") && svg.contains("aria-label=\"a &amp; b\"") && !svg.contains("<y>"), "{svg}");
    }

    #[test]
    fn colours_follow_the_readers_preference_and_nothing_hides_the_ground() {
        let svg = Chart::new("chart", [400.0, 200.0], RIGHT, [Axis::linear(0.0, 1.0); 2], ["x", "y"]).finish();
        assert!(svg.contains("prefers-color-scheme:dark") && svg.contains("color-scheme:light dark"), "{svg}");
        for fixed in ["fill=\"", "stroke=\"", "<rect", "background"] {
            assert!(!svg.contains(fixed), "{fixed}: {svg}");
        }
    }
}
