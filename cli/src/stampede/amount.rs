//! Durations and shares, as users give them and as tables show them.

use std::time::Duration;

/// Longer than this nobody lets anything here last.
const LONGEST: Duration = Duration::from_secs(600);

/// Reads a duration such as `50ms`; zero is one.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit.trim() {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        _ => f64::NAN,
    };
    let number: f64 = number.parse().unwrap_or(f64::NAN);
    if (number * seconds).is_nan() {
        return Err(String::from("give a number and its unit, as in `50ms`, `1.5s` or `200us`"));
    }
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(format!("give at most {} s", LONGEST.as_secs())),
    }
}

/// Reads a duration that is not zero.
pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(String::from("give more than nothing")),
        duration => Ok(duration),
    }
}

/// Reads a part of the whole such as `5%` or `0.05`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    match number.trim().parse::<f64>() {
        Ok(number) if (0.0..=whole).contains(&number) => Ok(number / whole),
        _ => Err(String::from("give a share from 0 to 1, or a percentage such as `5%`")),
    }
}

/// Reads a share that is not the whole.
pub(crate) fn part(text: &str) -> Result<f64, String> {
    match share(text)? {
        1.0 => Err(String::from("give less than the whole")),
        part => Ok(part),
    }
}

/// Reads the exponent of Zipf's law.
pub(crate) fn exponent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(exponent) if (0.0..=10.0).contains(&exponent) => Ok(exponent),
        _ => Err(String::from("give a number from 0 to 10")),
    }
}

/// A duration with three digits, as in `50.3 ms`.
pub(crate) fn short(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let units = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6)];
    // Compared after rounding: 999.9 ns are 1.00 µs.
    let found = units.into_iter().find(|(_, length)| nanos / length < 999.5);
    let (unit, length) = found.unwrap_or(("s", 1e9));
    let number = nanos / length;
    if unit == "ns" || number >= 99.95 {
        format!("{number:.0} {unit}")
    } else if number >= 9.995 {
        format!("{number:.1} {unit}")
    } else {
        format!("{number:.2} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("200 us"), Ok(Duration::from_micros(200)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in
            ["", "5", "ms", "-1ms", "1h", "1.2.3s", "infs", "nans", "1e3s", "601s", "99999999999999999999s"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(positive("0ms").is_err());
    }

    #[test]
    fn shares_lie_between_nothing_and_all() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("1"), Ok(1.0));
        for wrong in ["", "%", "-0.1", "1.1", "101%", "nan", "inf"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        assert_eq!(part("99%"), Ok(0.99));
        assert!(part("100%").is_err());
        for wrong in ["", "x", "-1", "11", "nan"] {
            assert!(exponent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn three_digits_are_shown() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (9996, "10.0 µs"),
            (99_960, "100 µs"),
            (999_600, "1.00 ms"),
            (50_340_000, "50.3 ms"),
            (1_234_567_890, "1.23 s"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(short(Duration::from_nanos(nanos)), text);
        }
    }
}
