//! The roofline picture: kernels by arithmetic intensity and rate, under what the device reaches.

use std::fmt::Write as _;

use super::{
    Row,
    labels::{self, Point},
};
use crate::bench::Ceilings;

/// Size and margins in pixels.
const SIZE: [f64; 2] = [860.0, 500.0];
const MARGIN: [f64; 4] = [20.0, 20.0, 50.0, 70.0]; // top, right, bottom, left
/// Kernels with a smaller share of the time are not drawn.
const SMALLEST: f64 = 0.002;
/// Decades below the ceiling that are shown.
const DECADES: f64 = 4.0;

/// An axis in powers of ten.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let t = (value.max(1e-12).log10() - self.from) / (self.to - self.from);
        self.start + t.clamp(0.0, 1.0) * (self.end - self.start)
    }

    fn powers(&self) -> impl Iterator<Item = i32> {
        self.from.ceil() as i32..=self.to.floor() as i32
    }
}

/// The picture as an SVG document. The area of a point is the kernel's share of the time.
pub(super) fn svg(rows: &[Row], ceilings: &Ceilings) -> String {
    let (flops, bytes) = (ceilings.flops() * 1e-9, ceilings.bytes() * 1e-9);
    let [width, height] = SIZE;
    let [top, right, bottom, left] = MARGIN;
    let x = Axis { from: -2.0, to: 3.0, start: left, end: width - right };
    let y = Axis { from: flops.log10() - DECADES, to: flops.log10() + 0.5, start: height - bottom, end: top };
    let mut s = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        s,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12"><rect width="{width}" height="{height}" fill="white"/>"#
    );
    let number =
        |p: i32| if p < 0 { format!("{:.*}", -p as usize, 10_f64.powi(p)) } else { format!("{:.0}", 10_f64.powi(p)) };
    for p in x.powers() {
        let at = x.at(10_f64.powi(p));
        let _ = write!(
            s,
            r##"<line x1="{at:.1}" x2="{at:.1}" y1="{top}" y2="{:.1}" stroke="#e3e7ec"/><text x="{at:.1}" y="{:.1}" text-anchor="middle" fill="#55606e">{}</text>"##,
            y.start,
            y.start + 18.0,
            number(p)
        );
    }
    for p in y.powers() {
        let at = y.at(10_f64.powi(p));
        let _ = write!(
            s,
            r##"<line x1="{left}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}" stroke="#e3e7ec"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="#55606e">{}</text>"##,
            x.end,
            left - 8.0,
            at + 4.0,
            number(p)
        );
    }
    let _ = write!(
        s,
        r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#1d2733">FLOP a byte</text><text transform="translate(18 {:.1}) rotate(-90)" text-anchor="middle" fill="#1d2733">GFLOP/s</text>"##,
        (x.start + x.end) / 2.0,
        height - 10.0,
        (y.start + y.end) / 2.0
    );
    let knee = flops / bytes;
    let low = 10_f64.powf(x.from);
    let _ = write!(
        s,
        r##"<polyline fill="none" stroke="#1d2733" stroke-width="1.5" points="{:.1},{:.1} {:.1},{:.1} {:.1},{:.1}"/>"##,
        x.at((10_f64.powf(y.from) / bytes).max(low)),
        y.at((low * bytes).max(10_f64.powf(y.from))),
        x.at(knee),
        y.at(flops),
        x.end,
        y.at(flops)
    );
    let _ = write!(
        s,
        r##"<text x="{:.1}" y="{:.1}" text-anchor="end" fill="#1d2733">matrix product {flops:.0} GFLOP/s, copy {bytes:.0} GB/s</text>"##,
        x.end - 4.0,
        y.at(flops) - 8.0
    );
    let drawn = rows.iter().filter(|r| r.share >= SMALLEST && r.bytes > 0 && r.flops > 0);
    let points: Vec<Point> = drawn
        .map(|r| Point {
            center: [x.at(r.flops as f64 / r.bytes as f64), y.at(r.gflops)],
            radius: 3.0 + 30.0 * r.share.sqrt(),
            name: format!("{} {:.0} %", r.kernel, 100.0 * r.share),
        })
        .collect();
    // The ceiling's text is in the way too.
    let ceiling = [x.end - 250.0, y.at(flops) - 22.0, x.end, y.at(flops) + 2.0];
    let labels = labels::place(&points, [x.start, y.end, x.end, y.start], &[ceiling]);
    for (i, (point, label)) in points.iter().zip(labels).enumerate() {
        let (Point { center: [cx, cy], radius, name }, hue) = (point, i * 47 % 360);
        if let Some([[x1, y1], [x2, y2]]) = label.leader {
            let _ = write!(
                s,
                r##"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="#8b95a1" stroke-width="0.8"/>"##
            );
        }
        let [tx, ty] = label.at;
        let _ = write!(
            s,
            r##"<circle cx="{cx:.1}" cy="{cy:.1}" r="{radius:.1}" fill="hsl({hue}, 65%, 50%)" fill-opacity="0.55" stroke="hsl({hue}, 65%, 35%)"/><text x="{tx:.1}" y="{ty:.1}" fill="#1d2733" stroke="white" stroke-width="3" paint-order="stroke">{name}</text>"##
        );
    }
    s.push_str("</svg>\n");
    s
}
