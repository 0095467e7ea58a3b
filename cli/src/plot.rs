//! The miss-ratio curve as an SVG file, and what all drawings have in common.

use std::{error::Error as StdError, fs, path::Path};

use plotters::{coord::ranged1d::Ranged, prelude::*};

use crate::{
    error::Error,
    report::{Report, Row},
};

/// Width and height of a drawing.
pub(crate) const SIZE: (u32, u32) = (800, 500);

// The palette of Okabe and Ito, which the colour-blind can tell apart too.
pub(crate) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(crate) const VERMILLION: RGBColor = RGBColor(213, 94, 0);
pub(crate) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(crate) const PURPLE: RGBColor = RGBColor(204, 121, 167);
pub(crate) const ORANGE: RGBColor = RGBColor(230, 159, 0);

/// The part of the axis that a capacity's label may need.
const LABEL_WIDTH: f64 = 0.09;

/// Draws `report` into the file `path`.
pub(crate) fn write(report: &Report, path: &Path) -> Result<(), Error> {
    save(path, "--svg", |svg| draw(report, svg))
}

/// Writes what `draw` draws into the file `path`, which the user gave by `option`.
pub(crate) fn save(
    path: &Path,
    option: &str,
    draw: impl FnOnce(&mut String) -> Result<(), Box<dyn StdError>>,
) -> Result<(), Error> {
    let mut svg = String::new();
    draw(&mut svg).map_err(|error| {
        let remedy = format_args!("leave {option} out");
        Error::new(path.display(), format_args!("cannot be drawn ({error})"), remedy)
    })?;
    fs::write(path, svg).map_err(|error| Error::write(path, error))
}

/// A piece of line for the legend.
pub(crate) fn sample(colour: RGBColor) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2))
}

/// Draws the legend into the upper right corner.
pub(crate) fn legend<'c, X: Ranged, Y: Ranged>(
    chart: &mut ChartContext<'c, SVGBackend<'c>, Cartesian2d<X, Y>>,
) -> Result<(), Box<dyn StdError>> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}

fn draw(report: &Report, svg: &mut String) -> Result<(), Box<dyn StdError>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let capacities: Vec<f64> = report.curve().map(abscissa).collect();
    let least = capacities.first().copied().unwrap_or(1.0) / 1.1;
    let most = capacities.last().copied().unwrap_or(1.0) * 1.1;
    let scale =
        (least..most).log_scale().with_key_points(apart(&capacities, (most / least).powf(LABEL_WIDTH)));
    let caption = format!("{}: {} requests, {} keys", report.title, report.requests, report.distinct);
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(scale, 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("capacity (entries)")
        .y_desc("miss ratio (%)")
        .x_label_formatter(&|capacity| format!("{capacity:.0}"))
        .y_label_formatter(&|percent| format!("{percent:.0}"))
        .axis_desc_style(("sans-serif", 16))
        .label_style(("sans-serif", 13))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.04))
        .draw()?;
    for (name, colour) in [("LRU", VERMILLION), ("dogpile", BLUE), ("optimal", GREEN)] {
        let points = report.curve().map(|row| {
            let hits = match name {
                "LRU" => row.lru as f64,
                "dogpile" => row.hits().policy,
                _ => row.optimal as f64,
            };
            (abscissa(row), 100.0 - report.percent(hits))
        });
        let line = LineSeries::new(points, colour.stroke_width(2)).point_size(3);
        chart.draw_series(line)?.label(name).legend(sample(colour));
    }
    legend(&mut chart)?;
    root.present()?;
    Ok(())
}

/// A logarithmic scale has no zero.
fn abscissa(row: &Row) -> f64 {
    row.capacity.max(1) as f64
}

/// Those of the ascending `capacities` that lie at least a `factor` from one another, for labels that can be read.
fn apart(capacities: &[f64], factor: f64) -> Vec<f64> {
    let mut chosen: Vec<f64> = Vec::new();
    for &capacity in capacities {
        if chosen.last().is_none_or(|last| capacity >= last * factor) {
            chosen.push(capacity);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_distance() {
        assert_eq!(apart(&[1.0, 1.5, 2.0, 7.0, 8.0, 14.0], 2.0), [1.0, 2.0, 7.0, 14.0]);
        assert!(apart(&[], 2.0).is_empty());
    }
}
