//! The targets that `dogpile replay` answers, over a folder of traces with a reference.

#![forbid(unsafe_code)]

use std::process::Command;

use super::TargetOptions;
use super::check::Check;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");

pub(super) fn checks(options: &TargetOptions) -> Result<Vec<Check>, String> {
    let (Some(traces), Some(reference)) = (&options.traces, &options.reference) else {
        let why = "name --traces FOLDER --reference FILE, or run `dogpile replay FOLDER --reference FILE`";
        return Ok(vec![Check::not_measured("hit ratio", why)]);
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--release", "--quiet", "--package", "dogpile-cli", "--manifest-path", MANIFEST, "--"])
        .arg("replay")
        .arg(traces)
        .arg("--reference")
        .arg(reference)
        .output()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("`dogpile replay` failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    judged(&String::from_utf8_lossy(&output.stdout))
}

/// Reads the last lines of `dogpile replay`.
fn judged(output: &str) -> Result<Vec<Check>, String> {
    let after = |start: &str| {
        let line = output.lines().rev().find_map(|line| line.strip_prefix(start));
        line.ok_or_else(|| format!("`dogpile replay` prints no line `{start}…`"))
    };
    let number = |text: &str| {
        text.parse::<f64>()
            .map_err(|_| format!("`dogpile replay` prints `{text}` where a number was expected"))
    };
    // "84 rows: 0.216; of the best other on each: 0.444"
    let means = after("mean closure of ")?;
    let (_, mean) = means.split_once(": ").unwrap_or_default();
    let (mean, rivals) = mean.split_once("; ").unwrap_or_default();
    // "51 of 94 rows (54.26 %)"
    let near = after("within 1 point of the best other: ")?;
    let share = near.split_once('(').and_then(|(_, share)| share.split_once(' ')).unwrap_or_default().0;
    // "-17.64 points at glimpse/506 (lirs)"
    let worst = after("worst recorded row: ")?;
    let (points, place) = worst.split_once(" points at ").unwrap_or_default();
    Ok(vec![
        Check::at_least("hit ratio: mean closure", number(mean)?, 0.444).with(rivals),
        Check::at_least("hit ratio: % of rows within 1 point of the best other", number(share)?, 90.0)
            .with(near),
        Check::at_least("hit ratio: points at the worst recorded row", number(points)?, -4.0).with(place),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_replay_is_understood() {
        let output = "closure of  capacity\n\n\
                      mean closure of 84 rows: 0.216; of the best other on each: 0.444\n\
                      within 1 point of the best other: 51 of 94 rows (54.26 %)\n\
                      worst recorded row: -17.64 points at glimpse/506 (lirs)\n\
                      worst synthetic row: -39.85 points at loop/404 (mini-moka)\n";
        let checks = judged(output).expect("all lines are there");
        let figures: Vec<String> = checks.iter().map(|check| check.cells()[2].clone()).collect();
        assert_eq!(figures[0], "0.22 (of the best other on each: 0.444)");
        assert_eq!(figures[1], "54.26 (51 of 94 rows (54.26 %))");
        assert_eq!(figures[2], "-17.64 (glimpse/506 (lirs))");
        assert!(judged("nothing").is_err());
    }
}
