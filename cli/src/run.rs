//! One replay: a trace through one [`Cache`], by one thread or several.

use std::{
    num::NonZeroUsize,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use dogpile::{BuildError, Cache, RandomState};

use crate::progress::{Progress, STEP};

/// How many requests a thread takes at once when there are several: enough to make taking them cheap, and so few that
/// the threads together keep to the trace's order but for some hundred requests. Fixed shares would drift apart by
/// whatever the scheduler likes, and with them the hit ratio.
const BLOCK: usize = 64;

/// What is varied between replays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Entries that the cache may hold.
    pub(crate) capacity: u64,
    /// Shards, or the cache's own choice.
    pub(crate) shards: Option<NonZeroUsize>,
    /// Seed of the hasher, or a random one.
    pub(crate) seed: Option<u64>,
    /// Threads that share the cache and the trace.
    pub(crate) threads: NonZeroUsize,
}

/// What a replay tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Requests that found their key.
    pub(crate) hits: u64,
    /// From the first thread's first request to the last one's last.
    pub(crate) elapsed: Duration,
    /// Shards that the cache had.
    pub(crate) shards: usize,
}

/// Replays `keys`: get, and on a miss insert; each entry counts one.
///
/// # Panics
/// Panics if the cache returns another key's value.
pub(crate) fn replay(keys: &[u64], setup: Setup, progress: &Progress) -> Result<Outcome, BuildError> {
    let hasher = setup.seed.map_or_else(RandomState::new, RandomState::with_seed);
    let mut builder = Cache::<u64, u64>::builder().max_entries(setup.capacity).hasher(hasher);
    if let Some(shards) = setup.shards {
        builder = builder.shards(shards);
    }
    let cache = builder.build()?;
    let (hits, elapsed) = if setup.threads.get() == 1 {
        let begin = now();
        let hits = keys.chunks(STEP).map(|part| {
            let hits = requests(&cache, part);
            progress.advance(part.len());
            hits
        });
        (hits.sum(), begin.elapsed())
    } else {
        together(&cache, keys, setup.threads.get(), progress)
    };
    Ok(Outcome { hits, elapsed, shards: cache.shards() })
}

/// The one kind of work that is measured. Returns the hits.
fn requests(cache: &Cache<u64, u64>, keys: &[u64]) -> u64 {
    let mut hits = 0;
    for &key in keys {
        if let Some(value) = cache.get(&key) {
            assert_eq!(*value, key, "the cache returned another key's value");
            hits += 1;
        } else {
            // A capacity of zero gives the value back.
            let _refused = cache.insert(key, key);
        }
    }
    hits
}

/// Lets `threads` threads take blocks of the trace in turn.
fn together(cache: &Cache<u64, u64>, keys: &[u64], threads: usize, progress: &Progress) -> (u64, Duration) {
    // Relaxed: the blocks lie in `keys`, which nobody writes; only that each is taken once matters.
    let taken = AtomicUsize::new(0);
    let start = Barrier::new(threads);
    let work = || {
        start.wait();
        let begin = now();
        let mut hits = 0;
        let mut unreported = 0;
        loop {
            let from = taken.fetch_add(BLOCK, Relaxed);
            let Some(rest) = keys.get(from..).filter(|rest| !rest.is_empty()) else { break };
            let block = &rest[..rest.len().min(BLOCK)];
            hits += requests(cache, block);
            unreported += block.len();
            if unreported >= STEP {
                progress.advance(unreported);
                unreported = 0;
            }
        }
        let end = now();
        progress.advance(unreported);
        (hits, begin, end)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let parts: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        let begin = parts.iter().map(|part| part.1).min().expect("there is a thread");
        let end = parts.iter().map(|part| part.2).max().expect("there is a thread");
        (parts.iter().map(|part| part.0).sum(), end - begin)
    })
}

/// The one place where this command reads a clock.
#[expect(clippy::disallowed_methods, reason = "measures throughput; the library's clocks are for deadlines")]
fn now() -> Instant {
    Instant::now()
}
