//! The callers: threads and tasks that ask, wait for the answer, pause, and ask again.
//!
//! The loop is closed: who waits does not ask. An origin that is slow lowers the rate, as it does for a fixed number of
//! workers, and a slow answer counts once, not once for each request that would have come meanwhile.

use std::{panic, sync::Arc, thread, time::Duration};

use dogpile::time::Instant;
use fastrand::Rng;
use tokio::{runtime::Runtime, task::JoinHandle};

use super::{mode::Subject, origin::Failure, popularity::Popularity, tally::Tally};

/// How many callers there are, and how they behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Callers that are threads.
    pub(crate) threads: usize,
    /// Callers that are tasks.
    pub(crate) tasks: usize,
    /// The mean pause between an answer and the next request.
    pub(crate) pause: Duration,
    /// What all chance comes from.
    pub(crate) seed: u64,
}

/// What the callers of one run have in common.
#[derive(Debug)]
struct Run {
    subject: Arc<Subject>,
    popularity: Arc<Popularity>,
    pause: Duration,
    end: Instant,
}

/// One of them.
#[derive(Debug)]
struct Caller {
    run: Arc<Run>,
    rng: Rng,
    tally: Tally,
}

/// Callers at work.
#[derive(Debug)]
pub(crate) struct Callers {
    threads: Vec<thread::JoinHandle<Tally>>,
    tasks: Vec<JoinHandle<Tally>>,
}

impl Crowd {
    /// Sets all callers to work until `end`.
    pub(crate) fn start(
        &self,
        subject: &Arc<Subject>,
        popularity: &Arc<Popularity>,
        end: Instant,
        runtime: &Runtime,
    ) -> Callers {
        let run = Arc::new(Run {
            subject: Arc::clone(subject),
            popularity: Arc::clone(popularity),
            pause: self.pause,
            end,
        });
        let mut rng = Rng::with_seed(self.seed);
        let mut caller = || Caller { run: Arc::clone(&run), rng: rng.fork(), tally: Tally::new() };
        // Threads first: the more tasks are at work, the longer it takes to start a thread.
        let threads = (0..self.threads).map(|_| {
            let caller = caller();
            thread::spawn(|| caller.thread())
        });
        let threads = threads.collect();
        Callers { threads, tasks: (0..self.tasks).map(|_| runtime.spawn(caller().task())).collect() }
    }
}

impl Callers {
    /// Waits for all to end, and sums up what they saw.
    ///
    /// # Panics
    /// Panics if one did.
    pub(crate) fn join(self, runtime: &Runtime) -> Tally {
        let mut sum = Tally::new();
        for thread in self.threads {
            sum.add(&thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload)));
        }
        for task in self.tasks {
            let joined = runtime.block_on(task);
            sum.add(&joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic())));
        }
        sum
    }
}

impl Caller {
    fn thread(mut self) -> Tally {
        let run = Arc::clone(&self.run);
        loop {
            run.subject.origin().time().block(self.pause());
            let Some((key, asked)) = self.request() else { return self.tally };
            let answer = run.subject.ask(key);
            self.note(asked, answer);
        }
    }

    async fn task(mut self) -> Tally {
        let run = Arc::clone(&self.run);
        loop {
            run.subject.origin().time().pass(self.pause()).await;
            let Some((key, asked)) = self.request() else { return self.tally };
            let answer = run.subject.ask_async(key).await;
            self.note(asked, answer);
        }
    }

    /// The next pause: anything between none and twice the mean.
    fn pause(&mut self) -> Duration {
        self.run.pause.mul_f64(2.0 * self.rng.f64())
    }

    /// The next key, and the time now; none when the run is over.
    fn request(&mut self) -> Option<(u64, Instant)> {
        let now = self.run.subject.origin().time().now();
        (now < self.run.end).then(|| (self.run.popularity.key_at(self.rng.f64()), now))
    }

    fn note(&mut self, asked: Instant, answer: Result<(), Failure>) {
        let now = self.run.subject.origin().time().now();
        self.tally.note(now.saturating_duration_since(asked), &answer);
    }
}
