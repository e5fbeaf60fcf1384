//! The rows' training error over the images shown, as an SVG picture.

use crate::chart::{Axis, Chart};

const SIZE: [f64; 2] = [900.0, 480.0];
/// Points of a curve at most; more are averaged.
const POINTS: usize = 80;
/// A curve of no more points shows each of them: a single one is no line.
const FEW: usize = 16;
/// The legend beside its names, from a line of it to the next one, and the width of a character, in pixels.
const LEGEND: f64 = 50.0;
const LINE: f64 = 18.0;
const CHARACTER: f64 = 6.4;

/// `curves`: name and points (images, mean squared error) of each row.
pub(super) fn svg(curves: &[(&str, &[[f64; 2]])]) -> String {
    let curves: Vec<(&str, Vec<[f64; 2]>)> = curves.iter().map(|(name, points)| (*name, averaged(points))).collect();
    let all = || curves.iter().flat_map(|(_, points)| points);
    let last = all().map(|p| p[0]).fold(1.0, f64::max);
    let low = all().map(|p| p[1]).reduce(f64::min).unwrap_or(0.1);
    let high = all().map(|p| p[1]).fold(low * 1.5, f64::max);
    // Room around the last and the highest point, so that a single one is not in the corner.
    let axes = [Axis::linear(0.0, last * 1.02), Axis::logarithmic(low * 0.9, high * 1.15)];
    let names: Vec<&str> = curves.iter().map(|(name, _)| *name).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let name = "Mean squared error over the images of the training";
    let mut chart =
        Chart::new(name, SIZE, LEGEND + CHARACTER * longest as f64, axes, ["training images", "mean squared error"]);
    let hue = |i: usize| 360.0 * i as f64 / curves.len().max(1) as f64;
    for (i, (_, points)) in curves.iter().enumerate() {
        let places: Vec<[f64; 2]> = points.iter().map(|p| [chart.x.at(p[0]), chart.y.at(p[1])]).collect();
        if places.len() > 1 {
            chart.polyline(&places, "curve", hue(i));
        }
        if places.len() <= FEW {
            places.iter().for_each(|place| chart.circle(*place, 4.0, "dot", hue(i)));
        }
    }
    legend(&mut chart, &names, hue);
    if all().next().is_none() {
        let [left, top, right, bottom] = chart.frame();
        chart.text([(left + right) / 2.0, (top + bottom) / 2.0], "tick", "middle", "no line of metrics yet");
    }
    chart.finish()
}

/// The names, right of the frame.
fn legend(chart: &mut Chart, names: &[&str], hue: impl Fn(usize) -> f64) {
    let [_, top, right, _] = chart.frame();
    for (i, name) in names.iter().enumerate() {
        let y = top + LINE * (i as f64 + 0.5);
        chart.polyline(&[[right + 14.0, y], [right + 32.0, y]], "curve", hue(i));
        chart.text([right + 38.0, y + 4.0], "name", "start", name);
    }
}

/// The means of as many neighbours as leave no more than [`POINTS`].
fn averaged(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mean = |c: &[[f64; 2]], k: usize| c.iter().map(|p| p[k]).sum::<f64>() / c.len() as f64;
    let chunks = points.chunks(points.len().div_ceil(POINTS).max(1));
    chunks.map(|c| [mean(c, 0), mean(c, 1).max(1e-6)]).filter(|p| p[0].is_finite() && p[1].is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_named_and_a_run_without_points_is_drawn_too() {
        let points: Vec<[f64; 2]> = (1..40).map(|i| [f64::from(i) * 100.0, 1.0 / f64::from(i)]).collect();
        let text = svg(&[("first", &points), ("second < third", &[])]);
        assert!(text.starts_with("<svg") && text.contains("first") && text.contains("second &lt; third"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"));
        assert!(svg(&[]).contains("no line of metrics yet"));
    }

    #[test]
    fn few_points_are_seen_as_points_and_many_are_averaged() {
        let points = |n: u32| (1..=n).map(|i| [f64::from(i) * 16.0, 0.5 / f64::from(i)]).collect::<Vec<_>>();
        for (n, dots, curves) in [(1, 1, 0), (2, 2, 1), (16, 16, 1), (17, 0, 1), (5000, 0, 1)] {
            let text = svg(&[("row", &points(n))]);
            // One more curve is in the legend.
            let found = (text.matches("<circle").count(), text.matches("class=\"curve\"").count() - 1);
            assert_eq!(found, (dots, curves), "{n}");
        }
        assert!(averaged(&points(5000)).len() <= POINTS);
        assert_eq!(averaged(&points(40)), points(40));
    }

    #[test]
    fn nothing_of_the_picture_is_white_in_the_dark() {
        let text = svg(&[("row", &[[1.0, 0.5], [2.0, 0.25]])]);
        assert!(text.contains("prefers-color-scheme:dark"));
        for fixed in ["fill=\"", "stroke=\"", "white"] {
            assert!(!text.contains(fixed), "{fixed}");
        }
    }
}
