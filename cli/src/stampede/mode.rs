//! The ways to fill a cache that are compared.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use dogpile::{Cache, CreateError, Early, Policy, gate::Tokio, time::Clock};
use tokio::runtime::Handle;

use super::origin::{Failure, Origin};

/// How callers get what is not in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Look, create, insert: what one writes by hand
    NoGate,
    /// One caller creates, the others wait for it
    Gate,
    /// One creation in the background, and the stale value for all as long as it may be served
    Stale,
    /// And creations begin early, at random (`XFetch`)
    Early,
    /// Stale values as above, and entries expire early, at random
    Jitter,
}

impl Mode {
    /// The order in which they build on one another.
    pub(crate) const ALL: [Self; 5] = [Self::NoGate, Self::Gate, Self::Stale, Self::Early, Self::Jitter];

    /// What it is called in tables and drawings.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::NoGate => "no gate",
            Self::Gate => "gate",
            Self::Stale => "gate + stale",
            Self::Early => "gate + stale + early",
            Self::Jitter => "gate + stale + jitter",
        }
    }

    /// The same in short: what is new in it.
    pub(crate) fn word(self) -> &'static str {
        let title = self.title();
        title.rsplit_once(" + ").map_or(title, |(_, word)| word)
    }
}

/// What a cache counted of the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Times that a caller waited for another's creation.
    pub(crate) waits: u64,
    /// Times that a caller was given a stale value.
    pub(crate) stale_served: u64,
}

impl Counts {
    /// What came on top of `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { waits: self.waits - before.waits, stale_served: self.stale_served - before.stale_served }
    }
}

/// How long entries live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// Time to live.
    pub(crate) fresh: Duration,
    /// For how long after that they may still be served, in the modes that do so.
    pub(crate) stale: Duration,
    /// The greatest part of `fresh` by which they expire early, in the modes that do so.
    pub(crate) jitter: f64,
}

impl Lifetimes {
    /// The policy of a mode with a gate.
    fn policy(self, mode: Mode, runner: Tokio) -> Result<Policy<u64>, dogpile::PolicyError> {
        let gate = Policy::builder().fresh(self.fresh).runner(runner);
        match mode {
            Mode::NoGate | Mode::Gate => gate,
            Mode::Stale => gate.stale(self.stale),
            Mode::Early => gate.stale(self.stale).early(Early::XFetch { beta: 1.0 }),
            Mode::Jitter => gate.stale(self.stale).jitter(self.jitter),
        }
        .build()
    }
}

/// An origin behind a cache.
#[derive(Debug)]
pub(crate) struct Subject {
    cache: Cache<u64, u64>,
    origin: Arc<Origin>,
    mode: Mode,
}

impl Subject {
    /// A cache that nothing is in. `runtime` runs what is created in the background.
    pub(crate) fn new(
        mode: Mode,
        lifetimes: Lifetimes,
        origin: Arc<Origin>,
        clock: impl Clock + 'static,
        runtime: &Handle,
    ) -> Result<Self, Box<dyn StdError>> {
        let builder = Cache::builder().clock(clock);
        let builder = match mode {
            Mode::NoGate => builder.time_to_live(lifetimes.fresh),
            _ => builder.policy(lifetimes.policy(mode, Tokio::new(runtime.clone()))?),
        };
        Ok(Self { cache: builder.build()?, origin, mode })
    }

    /// The origin.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the cache counted so far.
    pub(crate) fn counts(&self) -> Counts {
        let stats = self.cache.stats();
        Counts { waits: stats.waits, stale_served: stats.stale_served }
    }

    /// Asks from a thread.
    pub(crate) fn ask(&self, key: u64) -> Result<(), Failure> {
        let value = match self.mode {
            Mode::NoGate => match self.cache.get_cloned(&key) {
                Some(value) => value,
                None => self.keep(key, self.origin.call(key)?),
            },
            Mode::Gate => *self.cache.try_get_or_create(&key, || self.origin.call(key)).map_err(failure)?,
            Mode::Stale | Mode::Early | Mode::Jitter => {
                let origin = Arc::clone(&self.origin);
                *self.cache.try_get_or_create_detached(&key, move || origin.call(key)).map_err(failure)?
            }
        };
        assert_eq!(value, key, "the cache returned another key's value");
        Ok(())
    }

    /// Asks from a task.
    pub(crate) async fn ask_async(&self, key: u64) -> Result<(), Failure> {
        let value = match self.mode {
            Mode::NoGate => match self.cache.get_cloned(&key) {
                Some(value) => value,
                None => self.keep(key, self.origin.call_async(key).await?),
            },
            Mode::Gate => {
                let creator = self.origin.call_async(key);
                *self.cache.try_get_or_create_async(&key, creator).await.map_err(failure)?
            }
            Mode::Stale | Mode::Early | Mode::Jitter => {
                let origin = Arc::clone(&self.origin);
                let creator = async move { origin.call_async(key).await };
                *self.cache.try_get_or_create_detached_async(&key, creator).await.map_err(failure)?
            }
        };
        assert_eq!(value, key, "the cache returned another key's value");
        Ok(())
    }

    /// Inserts by hand.
    fn keep(&self, key: u64, value: u64) -> u64 {
        // Several may come here with one key: what the gate is against.
        let _replaced = self.cache.insert(key, value);
        value
    }
}

/// To callers all failures are one.
fn failure(_error: CreateError<Failure>) -> Failure {
    Failure
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::Mode;

    #[test]
    fn all_modes_are_run() {
        assert_eq!(Mode::value_variants(), Mode::ALL);
    }

    #[test]
    fn words_tell_modes_apart() {
        assert_eq!(Mode::ALL.map(Mode::word), ["no gate", "gate", "stale", "early", "jitter"]);
    }
}
