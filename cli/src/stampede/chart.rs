//! The origin's load over time as an SVG file.

use std::{error::Error as StdError, path::Path};

use plotters::prelude::*;

use super::{
    mode::Mode,
    report::{Outcome, Report},
};
use crate::{error::Error, plot};

/// The axis goes on above the highest load, so that the legend hides none.
const HEADROOM: f64 = 1.4;

/// Draws `report` into the file `path`.
pub(crate) fn write(report: &Report, path: &Path) -> Result<(), Error> {
    plot::save(path, "--plot", |svg| draw(report, svg))
}

fn colour(mode: Mode) -> RGBColor {
    match mode {
        Mode::NoGate => plot::VERMILLION,
        Mode::Gate => plot::BLUE,
        Mode::Stale => plot::GREEN,
        Mode::Early => plot::PURPLE,
        Mode::Jitter => plot::ORANGE,
    }
}

fn draw(report: &Report, svg: &mut String) -> Result<(), Box<dyn StdError>> {
    let root = SVGBackend::with_string(svg, plot::SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let loads = || report.outcomes.iter().map(|outcome| &outcome.load);
    let seconds = |outcome: &Outcome, bins: usize| outcome.load.bin_width.as_secs_f64() * bins as f64;
    let longest = report.outcomes.iter().map(|outcome| seconds(outcome, outcome.load.curve.len()));
    let longest = longest.fold(0.0, f64::max);
    let most = loads().map(|load| load.most_in_flight).max().unwrap_or(0).max(1);
    let mut chart = ChartBuilder::on(&root)
        .caption("calls of the origin in flight", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..longest, 0.0..most as f64 * HEADROOM)?;
    chart
        .configure_mesh()
        .x_desc("time (s)")
        .y_desc("calls in flight")
        .x_label_formatter(&|seconds| format!("{seconds:.1}"))
        .y_label_formatter(&|calls| format!("{calls:.0}"))
        .axis_desc_style(("sans-serif", 16))
        .label_style(("sans-serif", 13))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.04))
        .draw()?;
    for outcome in &report.outcomes {
        let colour = colour(outcome.mode);
        let points = outcome.load.curve.iter().enumerate();
        let points = points.map(|(index, bin)| (seconds(outcome, index), bin.in_flight as f64));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(outcome.mode.title())
            .legend(plot::sample(colour));
    }
    plot::legend(&mut chart)?;
    root.present()?;
    Ok(())
}
