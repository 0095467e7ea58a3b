//! One key that all threads read at once.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::{Effort, grouped, reads};
use crate::keys::{Key, Tally, value_of};
use crate::measure::{Entrant, interleave, together};
use crate::report::{self, COPY, Line, Row, Speaker};
use crate::stats;
use crate::subjects::{
    Cached, DashMap, Dogpile, DogpileHandle, DogpilePinned, Foyer, Hashbrown, Moka, Pace, Papaya,
    PapayaPinned, QuickCache, SccCache, SccIndex, Setup, Subject, TinyUfo,
};

const THREADS: usize = 2;
const HOT: u64 = 17;
const WINDOW: Duration = Duration::from_millis(8);

/// With as many threads as cores, anything else that runs shows.
const BOUND: f64 = 0.15;

pub(crate) fn read(effort: Effort) -> Row {
    let rounds = effort.rounds(101);
    let mut entrants = vec![
        entrant::<Hashbrown<u64>>(""),
        entrant::<Hashbrown<u64>>(COPY),
        entrant::<Dogpile<u64>>(""),
        entrant::<DogpilePinned<u64>>(""),
        entrant::<DogpileHandle<u64>>(""),
        entrant::<QuickCache<u64>>(""),
        entrant::<Moka<u64>>(""),
        entrant::<Foyer<u64>>(""),
        entrant::<Cached<u64>>(""),
        entrant::<TinyUfo<u64>>(""),
        entrant::<SccCache<u64>>(""),
        entrant::<SccIndex<u64>>(""),
        entrant::<Papaya<u64>>(""),
        entrant::<PapayaPinned<u64>>(""),
        entrant::<DashMap<u64>>(""),
    ];
    let samples = interleave(&mut entrants, rounds);
    report::times(
        String::from("hot key, 2 threads"),
        format!(
            "{THREADS} threads read one of {} u64 keys; ns per read of one thread; {rounds} rounds of {} ms; hashbrown is shared \
             without any lock",
            grouped(reads::SMALL),
            WINDOW.as_millis()
        ),
        &entrants,
        &samples,
        Speaker::Median,
        BOUND,
    )
}

/// How the rate grows with the threads: a map that nobody locks sets the measure, on this machine in these seconds.
pub(crate) fn factors(effort: Effort) -> Row {
    let rounds = effort.rounds(61);
    let mut entrants = Vec::new();
    entrants.extend(at_all_threads::<Hashbrown<u64>>(""));
    entrants.extend(at_all_threads::<Hashbrown<u64>>(COPY));
    entrants.extend(at_all_threads::<Dogpile<u64>>(""));
    entrants.extend(at_all_threads::<DogpilePinned<u64>>(""));
    entrants.extend(at_all_threads::<QuickCache<u64>>(""));
    entrants.extend(at_all_threads::<Papaya<u64>>(""));
    let samples = interleave(&mut entrants, rounds);
    let (mut lines, mut names, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    for (entrants, samples) in entrants.chunks(CROWDS.len()).zip(samples.chunks(CROWDS.len())) {
        let [alone, two, eight] = samples else { unreachable!("one list of samples for each crowd") };
        // Nanoseconds over all threads: less is a higher rate.
        let factor: Vec<f64> = alone.iter().zip(two).map(|(alone, two)| alone / two).collect();
        let Entrant { name, package, settings, .. } = &entrants[0];
        lines.push(Line {
            subject: name.clone(),
            package,
            settings: settings.clone(),
            cells: vec![
                format!("{:.2}", 1e3 / stats::median(alone)),
                format!("{:.2}", 1e3 / stats::median(two)),
                format!("{:.2}", 1e3 / stats::median(eight)),
                format!("{:.3}", stats::median(&factor)),
                format!("{:.3}", stats::median_ratio(two, eight)),
            ],
            samples: factor.clone(),
        });
        names.push(name.as_str());
        factors.push(stats::median(&factor));
    }
    Row {
        title: String::from("hot key, how the rate grows with threads"),
        about: format!(
            "all threads read one of {} u64 keys; M reads/s over all threads, medians of {rounds} rounds of {} ms; x 2: rate of 2 \
             threads over that of one, 8 over 2: of 8 over 2, medians of the rounds",
            grouped(reads::SMALL),
            WINDOW.as_millis()
        ),
        columns: &["1 thread", "2 threads", "8 threads", "x 2", "8 over 2"],
        headline: 3,
        noise: report::noise(&names, &factors, "x 2", BOUND),
        lines,
    }
}

const CROWDS: [usize; 3] = [1, 2, 8];

/// One subject, read by each number of threads.
fn at_all_threads<S: Subject<u64> + Sync + Send + 'static>(suffix: &str) -> Vec<Entrant<'static>> {
    let setup = Setup::keeping(1_024);
    let subject: Arc<S> = Arc::new(reads::filled(&setup, reads::SMALL));
    let settings = S::settings(&setup);
    let entrant = |threads| chunks_of(Arc::clone(&subject), threads, settings.clone(), suffix);
    CROWDS.map(entrant).into()
}

fn chunks_of<S: Subject<u64> + Sync + Send + 'static>(
    subject: Arc<S>,
    threads: usize,
    settings: String,
    suffix: &str,
) -> Entrant<'static> {
    let keys = vec![u64::of(HOT); 1_024];
    Entrant {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings,
        chunk: Box::new(move |_| {
            let (nanos, tallies) = together(threads, WINDOW, |_, _, tally: &mut Tally| {
                let seen = subject.read(&keys, Pace::Free);
                tally.hits += seen.hits;
                tally.sum = tally.sum.wrapping_add(seen.sum);
                keys.len()
            });
            for Tally { hits, sum } in tallies {
                assert_eq!(sum, value_of(HOT).wrapping_mul(hits), "{} answers wrongly", S::NAME);
                assert!(hits > 0);
            }
            nanos
        }),
    }
}

fn entrant<S: Subject<u64> + Sync + Send + 'static>(suffix: &str) -> Entrant<'static> {
    let setup = Setup::keeping(1_024);
    let subject: Arc<S> = Arc::new(reads::filled(&setup, reads::SMALL));
    let Entrant { name, package, settings, mut chunk } =
        chunks_of(subject, THREADS, S::settings(&setup), suffix);
    // Of one thread.
    Entrant { name, package, settings, chunk: Box::new(move |round| chunk(round) * THREADS as f64) }
}
