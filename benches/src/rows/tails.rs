//! One reader beside seven writers: more threads than cores, so that whoever is preempted inside a critical section makes
//! others wait.
//!
//! The reader times each read with the time-stamp counter. What the machine alone does to it shows in the line "no map".

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Effort, grouped};
use crate::clock;
use crate::keys::{Key, Random};
use crate::report::{self, COPY, Line, Row};
use crate::stats::{self, Histogram};
use crate::subjects::{
    Cached, DashMap, Dogpile, Foyer, Hasher, Moka, Papaya, QuickCache, SccCache, Setup, Shared, TinyUfo,
    hasher,
};

const POPULATION: u64 = 65_536;
const WRITERS: usize = 7;
const SLICE: Duration = Duration::from_millis(300);

/// p99 of identical subjects. Tails further out are shown, not compared: a run sees too few of those events.
const BOUND: f64 = 0.5;

/// One subject, or none, and what its slices showed.
struct Watched<'a> {
    name: String,
    package: &'static str,
    settings: String,
    /// Runs one slice; adds the reader's latencies and returns the writers' operations.
    slice: Box<dyn FnMut(&mut Histogram) -> u64 + 'a>,
    slices: Vec<Histogram>,
    written: u64,
}

impl Watched<'_> {
    /// Median over the slices of a quantile of each: one bad slice does not decide.
    fn quantile(&self, share: f64) -> f64 {
        let each: Vec<f64> = self.slices.iter().map(|slice| slice.quantile(share) as f64).collect();
        stats::median(&each)
    }

    /// Reads per second that took longer than `nanos`, over all slices.
    fn above(&self, nanos: u64) -> f64 {
        self.slices.iter().map(|slice| slice.above(nanos)).sum::<u64>() as f64 / self.seconds()
    }

    fn reads(&self) -> u64 {
        self.slices.iter().map(Histogram::total).sum()
    }

    fn seconds(&self) -> f64 {
        SLICE.as_secs_f64() * self.slices.len() as f64
    }
}

pub(crate) fn reader_beside_writers(effort: Effort) -> Row {
    let slices = effort.rounds(12);
    let mut watched = [
        control(),
        apart(),
        watch::<Dogpile<u64>>(""),
        watch::<Dogpile<u64>>(COPY),
        watch::<QuickCache<u64>>(""),
        watch::<Moka<u64>>(""),
        watch::<Foyer<u64>>(""),
        watch::<Cached<u64>>(""),
        watch::<TinyUfo<u64>>(""),
        watch::<SccCache<u64>>(""),
        watch::<Papaya<u64>>(""),
        watch::<DashMap<u64>>(""),
    ];
    let mut order: Vec<usize> = (0..watched.len()).collect();
    let mut random = Random::new(47);
    for _ in 0..slices {
        random.shuffle(&mut order);
        for &place in &order {
            let Watched { slice, slices, written, .. } = &mut watched[place];
            let mut latencies = Histogram::new();
            *written += slice(&mut latencies);
            slices.push(latencies);
        }
    }
    let lines = watched
        .iter()
        .map(|watched| Line {
            subject: watched.name.clone(),
            package: watched.package,
            settings: watched.settings.clone(),
            cells: vec![
                format!("{:.0}", watched.quantile(0.5)),
                format!("{:.0}", watched.quantile(0.99)),
                format!("{:.0}", watched.quantile(0.999)),
                format!("{:.0}", watched.above(10_000)),
                format!("{:.0}", watched.above(100_000)),
                format!("{:.0}", watched.above(1_000_000)),
                format!("{:.2}", watched.reads() as f64 / watched.seconds() / 1e6),
                format!("{:.2}", watched.written as f64 / watched.seconds() / 1e6),
            ],
            samples: Vec::new(),
        })
        .collect();
    let names: Vec<&str> = watched.iter().map(|watched| watched.name.as_str()).collect();
    let p99: Vec<f64> = watched.iter().map(|watched| watched.quantile(0.99)).collect();
    Row {
        title: String::from("reader beside 7 writers"),
        about: format!(
            "{} threads; {} keys in twice the capacity, writers insert 3 of 4 times and remove 1 of 4; latencies of single \
             reads in ns, timer included; {slices} slices of {} ms",
            WRITERS + 1,
            grouped(POPULATION),
            SLICE.as_millis()
        ),
        columns: &["p50", "p99", "p99.9", ">10 us/s", ">100 us/s", ">1 ms/s", "M reads/s", "M writes/s"],
        headline: 2,
        lines,
        noise: report::noise(&names, &p99, "p99", BOUND),
    }
}

fn watch<'a, S: Shared<u64> + 'a>(suffix: &str) -> Watched<'a> {
    let setup = Setup::keeping(2 * POPULATION);
    let subject = S::build(&setup);
    for index in 0..POPULATION {
        subject.insert(u64::of(index), index);
    }
    Watched {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings: S::settings(&setup),
        slice: Box::new(move |latencies| {
            slice(
                latencies,
                &mut [(); WRITERS],
                |key| {
                    if let Some(value) = subject.get(&key) {
                        assert_eq!(u64::of(value), key, "{} answers wrongly", S::NAME);
                    }
                },
                |(), index, removes| {
                    if removes {
                        subject.remove(&u64::of(index));
                    } else {
                        subject.insert(u64::of(index), index);
                    }
                },
            )
        }),
        slices: Vec::new(),
        written: 0,
    }
}

fn control<'a>() -> Watched<'a> {
    Watched {
        name: String::from("no map"),
        package: "",
        settings: String::from("the timer and the machine alone"),
        slice: Box::new(|latencies| {
            let write = |(): &mut (), index, removes| _ = black_box((index, removes));
            slice(latencies, &mut [(); WRITERS], |key| _ = black_box(key), write)
        }),
        slices: Vec::new(),
        written: 0,
    }
}

/// The limit: as many threads, each with a plain map that no other thread touches. What its reader waits for is the machine.
fn apart<'a>() -> Watched<'a> {
    let filled = || -> hashbrown::HashMap<u64, u64, Hasher> {
        let mut map = hashbrown::HashMap::with_capacity_and_hasher(2 * POPULATION as usize, hasher());
        map.extend((0..POPULATION).map(|index| (u64::of(index), index)));
        map
    };
    let (read, mut written) = (filled(), Vec::from_iter((0..WRITERS).map(|_| filled())));
    Watched {
        name: String::from(APART),
        package: "hashbrown",
        settings: String::from("the limit: a plain map for each thread"),
        slice: Box::new(move |latencies| {
            slice(
                latencies,
                &mut written,
                |key| {
                    let value = read.get(&key).copied();
                    assert_eq!(value.map(u64::of), Some(key), "a map answers wrongly");
                },
                |map, index, removes| {
                    if removes {
                        map.remove(&u64::of(index));
                    } else {
                        map.insert(u64::of(index), index);
                    }
                },
            )
        }),
        slices: Vec::new(),
        written: 0,
    }
}

/// The limit's name in the row.
pub(crate) const APART: &str = "maps apart";

/// Runs one slice of time: this thread reads and takes the time, others write.
///
/// `states` has one for each writer.
fn slice<W: Send>(
    latencies: &mut Histogram,
    states: &mut [W],
    read: impl Fn(u64),
    write: impl Fn(&mut W, u64, bool) + Sync,
) -> u64 {
    // Relaxed: it says only when to stop.
    let over = AtomicBool::new(false);
    let ticks = clock::ticks();
    thread::scope(|scope| {
        let writers: Vec<_> = states
            .iter_mut()
            .enumerate()
            .map(|(writer, state)| {
                let (over, write) = (&over, &write);
                scope.spawn(move || {
                    let mut random = Random::new(100 + writer as u64);
                    let mut written = 0;
                    while !over.load(Ordering::Relaxed) {
                        for _ in 0..16 {
                            let draw = random.next();
                            write(state, draw % POPULATION, draw >> 62 == 0);
                        }
                        written += 16;
                    }
                    written
                })
            })
            .collect();
        let mut random = Random::new(99);
        let start = clock::now();
        while start.elapsed() < SLICE {
            for _ in 0..64 {
                let key = u64::of(random.below(POPULATION));
                let before = ticks.raw();
                read(key);
                let after = ticks.raw();
                latencies.record(ticks.delta_as_nanos(before, after));
            }
        }
        over.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("no writer panics")).sum()
    })
}
