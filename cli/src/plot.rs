//! The miss-ratio curve as an SVG file.

use std::{error::Error as StdError, fs, path::Path};

use plotters::prelude::*;

use crate::{
    error::Error,
    report::{Report, Row},
};

const SIZE: (u32, u32) = (800, 500);

/// The palette of Okabe and Ito, which the colour-blind can tell apart too.
const OURS: RGBColor = RGBColor(0, 114, 178);
const LRU: RGBColor = RGBColor(213, 94, 0);
const OPTIMAL: RGBColor = RGBColor(0, 158, 115);

/// The part of the axis that a capacity's label may need.
const LABEL_WIDTH: f64 = 0.09;

/// Draws `report` into the file `path`.
pub(crate) fn write(report: &Report, path: &Path) -> Result<(), Error> {
    let mut svg = String::new();
    draw(report, &mut svg).map_err(|error| {
        Error::new(path.display(), format_args!("cannot be drawn ({error})"), "leave --svg out")
    })?;
    fs::write(path, svg).map_err(|error| Error::write(path, error))
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
    for (name, colour) in [("LRU", LRU), ("dogpile", OURS), ("optimal", OPTIMAL)] {
        let points = report.curve().map(|row| {
            let hits = match name {
                "LRU" => row.lru as f64,
                "dogpile" => row.hits().policy,
                _ => row.optimal as f64,
            };
            (abscissa(row), 100.0 - report.percent(hits))
        });
        let line = LineSeries::new(points, colour.stroke_width(2)).point_size(3);
        chart
            .draw_series(line)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
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
