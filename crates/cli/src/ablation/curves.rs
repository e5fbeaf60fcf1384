//! The rows' training error over the images shown, as an SVG picture.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 480);
/// Points of a curve that are averaged into one.
const SMOOTHED: usize = 4;

/// `curves`: name and points (images, mean squared error) of each row.
pub(super) fn svg(curves: &[(&str, &[[f64; 2]])]) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, curves).map_err(|e| anyhow!("the curves cannot be drawn: {e}"))?;
    Ok(text)
}

fn draw(text: &mut String, curves: &[(&str, &[[f64; 2]])]) -> Result<(), Box<dyn std::error::Error>> {
    let smooth = |points: &[[f64; 2]]| -> Vec<(f64, f64)> {
        points
            .chunks(SMOOTHED)
            .map(|c| {
                let mean = |k: usize| c.iter().map(|p| p[k]).sum::<f64>() / c.len() as f64;
                (mean(0), mean(1).max(1e-6))
            })
            .collect()
    };
    let curves: Vec<(&str, Vec<(f64, f64)>)> = curves.iter().map(|(name, points)| (*name, smooth(points))).collect();
    let all = || curves.iter().flat_map(|(_, points)| points.iter());
    let last = all().map(|p| p.0).fold(1.0, f64::max);
    let low = all().map(|p| p.1).fold(f64::INFINITY, f64::min).min(0.1);
    let high = all().map(|p| p.1).fold(low * 2.0, f64::max);
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(14)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, (low * 0.95..high * 1.05).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(RGBColor(238, 241, 244))
        .bold_line_style(RGBColor(222, 227, 232))
        .axis_style(RGBColor(85, 96, 110))
        .x_desc("training images")
        .y_desc("mean squared error")
        .x_label_formatter(&|x| format!("{:.0}", x))
        .y_label_formatter(&|y| format!("{y:.3}"))
        .label_style(("sans-serif", 13))
        .draw()?;
    let count = curves.len().max(1);
    for (i, (name, points)) in curves.into_iter().enumerate() {
        let color = HSLColor(i as f64 / count as f64, 0.65, 0.42);
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(222, 227, 232))
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_named_and_a_run_without_points_is_drawn_too() {
        let points: Vec<[f64; 2]> = (1..40).map(|i| [f64::from(i) * 100.0, 1.0 / f64::from(i)]).collect();
        let text = svg(&[("first", &points), ("second", &[])]).unwrap();
        assert!(text.starts_with("<svg") && text.contains("first") && text.contains("second"));
        assert!(!text.contains("NaN") && !text.contains("inf"));
        assert!(svg(&[]).is_ok());
    }
}
