//! What an origin had to bear, from the beginnings and ends of its calls.

use std::{collections::HashMap, time::Duration};

/// The shortest stretch that is looked at: a burst of this length already fills an origin's queue.
pub(crate) const WINDOW: Duration = Duration::from_millis(10);

/// One call, in time since the beginning of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The key that was asked for.
    pub(crate) key: u64,
    /// Its beginning.
    pub(crate) from: Duration,
    /// Its end, which it does not last at any more.
    pub(crate) until: Duration,
}

/// One stretch of the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bin {
    /// Calls that began in it.
    pub(crate) begun: u64,
    /// The most that were in flight at once in it.
    pub(crate) in_flight: u64,
}

/// The load of one run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// All calls.
    pub(crate) calls: u64,
    /// The most that were in flight at once.
    pub(crate) most_in_flight: u64,
    /// The most of one key that were in flight at once: the depth of the dogpile.
    pub(crate) most_of_one_key: u64,
    /// The most that began within any [`WINDOW`].
    pub(crate) most_in_window: u64,
    /// The length of a [`Bin`].
    pub(crate) bin_width: Duration,
    /// The load over time.
    pub(crate) curve: Vec<Bin>,
}

impl Load {
    /// Sums `calls` up, in bins of `bin_width` for at least `duration`.
    pub(crate) fn of(calls: &[Call], duration: Duration, bin_width: Duration) -> Self {
        let mut keys = HashMap::<u64, Vec<Call>>::new();
        for call in calls {
            keys.entry(call.key).or_default().push(*call);
        }
        let of_one_key = keys.values().map(|calls| most_in_flight(&levels(calls)));
        let levels = levels(calls);
        Self {
            calls: calls.len() as u64,
            most_in_flight: most_in_flight(&levels),
            most_of_one_key: of_one_key.max().unwrap_or(0),
            most_in_window: most_begun(calls, WINDOW),
            bin_width,
            curve: curve(calls, &levels, duration, bin_width),
        }
    }
}

/// The instants at which the number of calls in flight changes, each with the number from there on.
fn levels(calls: &[Call]) -> Vec<(Duration, u64)> {
    // At one instant ends come first: a call does not last at its end. (`false` is less.)
    let mut steps: Vec<(Duration, bool)> = calls
        .iter()
        .flat_map(|call| [(call.from, true), (call.until.max(call.from + NANO), false)])
        .collect();
    steps.sort_unstable();
    let mut level = 0;
    let level_after = |(instant, begins): (Duration, bool)| {
        if begins {
            level += 1;
        } else {
            level -= 1;
        }
        (instant, level)
    };
    steps.into_iter().map(level_after).collect()
}

/// A call that the clock gave no length has this one.
const NANO: Duration = Duration::from_nanos(1);

fn most_in_flight(levels: &[(Duration, u64)]) -> u64 {
    levels.iter().map(|&(_, level)| level).max().unwrap_or(0)
}

/// The most calls that began within any stretch of `width`, its end not included.
fn most_begun(calls: &[Call], width: Duration) -> u64 {
    let mut begins: Vec<Duration> = calls.iter().map(|call| call.from).collect();
    begins.sort_unstable();
    let mut oldest = 0;
    let mut most = 0;
    for (newest, &begin) in begins.iter().enumerate() {
        while begin - begins[oldest] >= width {
            oldest += 1;
        }
        most = most.max(newest - oldest + 1);
    }
    most as u64
}

fn curve(calls: &[Call], levels: &[(Duration, u64)], duration: Duration, width: Duration) -> Vec<Bin> {
    let bin_of = |instant: Duration| (instant.as_nanos() / width.as_nanos()) as usize;
    let last = levels.last().map_or(0, |&(instant, _)| bin_of(instant));
    let bins = (duration.as_nanos().div_ceil(width.as_nanos()) as usize).max(last + 1);
    let mut curve = vec![Bin::default(); bins];
    for call in calls {
        curve[bin_of(call.from)].begun += 1;
    }
    let mut level = 0;
    let mut changes = levels.iter().peekable();
    for (index, bin) in curve.iter_mut().enumerate() {
        bin.in_flight = level;
        while let Some((_, after)) = changes.next_if(|&&(instant, _)| bin_of(instant) == index) {
            level = *after;
            bin.in_flight = bin.in_flight.max(level);
        }
    }
    curve
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn calls(calls: &[(u64, u64, u64)]) -> Vec<Call> {
        calls
            .iter()
            .map(|&(key, from, until)| Call { key, from: millis(from), until: millis(until) })
            .collect()
    }

    #[test]
    fn an_idle_origin_bears_nothing() {
        let load = Load::of(&[], millis(25), millis(10));
        assert_eq!(
            (load.calls, load.most_in_flight, load.most_of_one_key, load.most_in_window),
            (0, 0, 0, 0)
        );
        assert_eq!(load.curve, [Bin::default(); 3]);
    }

    #[test]
    fn peaks_are_found() {
        // Keys 1 and 2 overlap by 5 ms, the two calls of key 1 meet but do not overlap.
        let load = Load::of(&calls(&[(1, 0, 20), (2, 15, 40), (1, 20, 30)]), millis(60), millis(10));
        assert_eq!((load.calls, load.most_in_flight, load.most_of_one_key), (3, 2, 1));
        assert_eq!(load.most_in_window, 2);
        let bin = |begun, in_flight| Bin { begun, in_flight };
        assert_eq!(load.curve, [bin(1, 1), bin(1, 2), bin(1, 2), bin(0, 2), bin(0, 1), bin(0, 0)]);
    }

    #[test]
    fn a_dogpile_is_found() {
        let load = Load::of(&calls(&[(7, 0, 9), (8, 0, 1), (7, 2, 9), (7, 8, 12)]), millis(10), millis(10));
        assert_eq!((load.most_of_one_key, load.most_in_flight), (3, 3));
        assert_eq!(load.curve.len(), 2, "what ends late is seen to its end");
    }

    #[test]
    fn a_window_does_not_include_its_end() {
        assert_eq!(most_begun(&calls(&[(1, 0, 1), (1, 9, 10), (1, 10, 11)]), millis(10)), 2);
        assert_eq!(most_begun(&calls(&[(1, 5, 6), (1, 14, 15), (1, 4, 5)]), millis(10)), 2);
        assert_eq!(most_begun(&calls(&[(1, 3, 4); 5]), millis(10)), 5);
    }

    #[test]
    fn a_call_of_no_length_was_in_flight() {
        let load = Load::of(&calls(&[(1, 5, 5)]), millis(10), millis(10));
        assert_eq!((load.most_in_flight, load.curve[0].in_flight), (1, 1));
    }
}
