//! The roofline picture: kernels by arithmetic intensity and rate, under what the device reaches.

use super::{
    Row,
    labels::{self, Point},
};
use crate::{
    bench::Ceilings,
    chart::{Axis, Chart, RIGHT},
    text::three_digits,
};

/// Size in pixels.
const SIZE: [f64; 2] = [860.0, 520.0];
/// Kernels with a smaller share of the time are not drawn.
const SMALLEST: f64 = 0.002;
/// Decades below and above the ceiling that are shown.
const DECADES: [f64; 2] = [4.0, 0.6];
/// FLOP a byte at the left and at the right.
const INTENSITY: [f64; 2] = [1e-2, 1e3];

/// The picture as an SVG document. The area of a point is the kernel's share of the time.
pub(super) fn svg(rows: &[Row], ceilings: &Ceilings) -> String {
    let (flops, bytes) = (ceilings.flops() * 1e-9, ceilings.bytes() * 1e-9);
    let lowest = flops * 10_f64.powf(-DECADES[0]);
    let y = Axis::logarithmic(lowest, flops * 10_f64.powf(DECADES[1]));
    let x = Axis::logarithmic(INTENSITY[0], INTENSITY[1]);
    let mut chart =
        Chart::new("Roofline: kernels under the device's ceilings", SIZE, RIGHT, [x, y], ["FLOP a byte", "GFLOP/s"]);
    let place = |chart: &Chart, intensity: f64, rate: f64| [chart.x.at(intensity), chart.y.at(rate)];
    let low = (lowest / bytes).max(INTENSITY[0]);
    let knee = flops / bytes;
    let roof = [(low, low * bytes), (knee, flops), (INTENSITY[1], flops)].map(|(i, rate)| place(&chart, i, rate));
    chart.polyline(&roof, "line", 0.0);

    let drawn = rows.iter().filter(|r| r.share >= SMALLEST && r.bytes > 0 && r.flops > 0);
    let points: Vec<Point> = drawn
        .map(|r| Point {
            center: place(&chart, r.flops as f64 / r.bytes as f64, r.gflops),
            radius: 3.0 + 30.0 * r.share.sqrt(),
            name: format!("{} {}", r.kernel, percent(r.share)),
        })
        .collect();
    let names = [
        (format!("matrix product {} GFLOP/s", three_digits(flops)), [roof[1], roof[2]]),
        (format!("copy {} GB/s", three_digits(bytes)), [roof[0], roof[1]]),
    ];
    let names: Vec<(&str, [[f64; 2]; 2])> = names.iter().map(|(name, line)| (name.as_str(), *line)).collect();
    let (of_lines, of_points) = labels::place(&points, chart.frame(), &names);
    for ((name, _), at) in names.iter().zip(of_lines) {
        chart.text(at, "halo", "start", name);
    }
    for (i, (point, label)) in points.iter().zip(&of_points).enumerate() {
        if let Some([from, to]) = label.leader {
            chart.line(from, to, "lead");
        }
        chart.circle(point.center, point.radius, "bubble", (i * 47 % 360) as f64);
    }
    // Last: a name is never under a point.
    for (point, label) in points.iter().zip(&of_points) {
        chart.text(label.at, "halo", "start", &point.name);
    }
    chart.finish()
}

/// A share; of the smallest the first decimal, because 0 % is not what they have.
fn percent(share: f64) -> String {
    let decimals = if share < 0.01 { 1 } else { 0 };
    format!("{:.decimals$} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kernel: &'static str, share: f64, gflops: f64, intensity: f64) -> Row {
        let (flops, ms) = (1_000_000_000, 1e3 / gflops);
        let bytes = (flops as f64 / intensity) as u64;
        Row { kernel, launches: 1, ms, share, flops, bytes, gflops, gbs: gflops / intensity, roofline: 0.5 }
    }

    #[test]
    fn every_kernel_and_both_ceilings_are_named_once_and_the_colours_are_the_readers() {
        let rows = [row("conv2d", 0.9, 180.0, 40.0), row("add", 0.004, 2.0, 0.1), row("tiny", 0.001, 1.0, 1.0)];
        let svg = svg(&rows, &Ceilings::of(200e9, 20e9));
        for name in ["conv2d 90 %", "add 0.4 %", "matrix product 200 GFLOP/s", "copy 20.0 GB/s"] {
            assert_eq!(svg.matches(name).count(), 1, "{name}");
        }
        assert!(!svg.contains("tiny") && !svg.contains("NaN"), "{svg}");
        for fixed in ["white", "fill=\"", "stroke=\""] {
            assert!(!svg.contains(fixed), "{fixed}");
        }
    }
}
