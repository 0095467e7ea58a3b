//! Short chunks of every subject, interleaved.
//!
//! All subjects of a row live in one process at once. A round runs one chunk of each, in an order drawn anew, so that
//! whatever the machine does in a second it does to all of them. The smallest chunk says what an operation costs; the
//! median of the pair ratios, taken within rounds, says the same under whatever load there was.

#![forbid(unsafe_code)]

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::keys::Random;

/// One subject of a row, built and warm.
pub(crate) struct Entrant<'a> {
    pub(crate) name: String,
    pub(crate) package: &'static str,
    pub(crate) settings: String,
    /// Runs the chunk of a round and returns nanoseconds per operation.
    pub(crate) chunk: Box<dyn FnMut(usize) -> f64 + 'a>,
}

/// Nanoseconds per operation: for each entrant one sample per round.
pub(crate) fn interleave(entrants: &mut [Entrant<'_>], rounds: usize) -> Vec<Vec<f64>> {
    let mut samples = vec![Vec::with_capacity(rounds); entrants.len()];
    let mut order: Vec<usize> = (0..entrants.len()).collect();
    let mut random = Random::new(41);
    // Round 0 warms caches and branch predictors and is not counted.
    for round in 0..=rounds {
        random.shuffle(&mut order);
        for &entrant in &order {
            let sample = (entrants[entrant].chunk)(round);
            if round > 0 {
                samples[entrant].push(sample);
            }
        }
    }
    samples
}

/// Runs `work` and returns nanoseconds per operation with its result.
pub(crate) fn timed<R>(operations: usize, work: impl FnOnce() -> R) -> (f64, R) {
    let start = clock::now();
    let result = work();
    let elapsed = start.elapsed();
    (elapsed.as_nanos() as f64 / operations as f64, result)
}

/// Runs `step(thread, turn, result)` again and again in `threads` threads at once, for `window`. A step returns how many
/// operations it did. Returns nanoseconds per operation, over all threads, and the results.
///
/// A fixed time and not a fixed number of operations: otherwise fast subjects are over before the last thread has started,
/// and what looks like a good minimum is one thread running after the other.
pub(crate) fn together<R: Default + Send>(
    threads: usize,
    window: Duration,
    step: impl Fn(usize, usize, &mut R) -> usize + Sync,
) -> (f64, Vec<R>) {
    let barrier = Barrier::new(threads);
    // Operations per nanosecond of one thread, and its result.
    let run = |thread: usize| -> (f64, R) {
        let (mut result, mut operations) = (R::default(), 0);
        barrier.wait();
        let start = clock::now();
        for turn in 0.. {
            operations += step(thread, turn, &mut result);
            let elapsed = start.elapsed();
            if elapsed >= window {
                return (operations as f64 / elapsed.as_nanos() as f64, result);
            }
        }
        unreachable!("turns do not run out")
    };
    let ran: Vec<(f64, R)> = thread::scope(|scope| {
        let run = &run;
        let rest: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let mut ran = vec![run(0)];
        ran.extend(rest.into_iter().map(|thread| thread.join().expect("no step panics")));
        ran
    });
    let rate: f64 = ran.iter().map(|(rate, _)| rate).sum();
    (1.0 / rate, ran.into_iter().map(|(_, result)| result).collect())
}
