//! Who waits for a lock is told when it is given back: one connection for each backend, one channel for each key.
//!
//! ```text
//! listen: subscribe ─> look ─> held? hear the bell, or the pause is over ─> look …
//! ```
//!
//! # Invariants
//! - **W1, no wake-up is lost.** Who waits looks after the server has said that it listens.
//! - **W2, nobody depends on it.** Where nothing can be heard, or a message is lost, the pause ends, and who waits looks.
#![forbid(unsafe_code)]

use super::failed::Failed;
use super::link::{SharedLink, within};
use crate::sync::{Arc, PlainMutex, Weak, lock_plain};
use crate::time::{Clock, Instant, PreciseClock};
use redis::aio::{PubSubSink, PubSubStream};
use smol::stream::StreamExt as _;
use std::collections::HashMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

/// What stands before the key in a channel's name. The scripts have it, too.
const CHANNEL: &str = "dogpile:wake:";
/// After a failure nobody tries again for so long.
const REST: Duration = Duration::from_secs(1);

/// Rung for one that waits.
#[derive(Default)]
struct Bell(PlainMutex<(bool, Option<Waker>)>);

impl Bell {
    fn ring(&self) {
        let mut state = lock_plain(&self.0);
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn heard(&self) {
        poll_fn(|cx| {
            let mut state = lock_plain(&self.0);
            if std::mem::take(&mut state.0) {
                return Poll::Ready(());
            }
            state.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The connection.
#[derive(Default)]
struct Hearing {
    sink: Option<PubSubSink>,
    /// Ended when it is dropped.
    reader: Option<smol::Task<()>>,
    /// How many connections there have been.
    era: u64,
    /// How many listen to each channel of this connection.
    joined: HashMap<Box<str>, usize>,
    failed: Option<Instant>,
}

impl Hearing {
    fn close(&mut self) {
        self.sink = None;
        self.reader = None;
        self.joined.clear();
    }
}

pub(super) struct Wakes {
    link: SharedLink,
    hearing: async_lock::Mutex<Hearing>,
    bells: PlainMutex<HashMap<Box<str>, Vec<Arc<Bell>>>>,
}

impl Wakes {
    pub(super) fn new(link: SharedLink) -> Self {
        Self { link, hearing: async_lock::Mutex::default(), bells: PlainMutex::default() }
    }

    /// Listens, if it can by then: what has happened before is for the caller to look at.
    pub(super) async fn listen(self: &Arc<Self>, key: &str, until: Instant) -> Ear {
        let bell = Arc::new(Bell::default());
        let channel: Box<str> = [CHANNEL, key].concat().into();
        lock_plain(&self.bells).entry(channel.clone()).or_default().push(Arc::clone(&bell));
        let mut ear = Ear { wakes: Arc::clone(self), channel, bell, era: None };
        ear.era = within(until.min(self.link.until()), self.join(&ear.channel)).await.ok();
        ear
    }

    async fn join(self: &Arc<Self>, channel: &str) -> Result<u64, Failed> {
        let mut hearing = self.hearing.lock().await;
        let result = self.join_with(&mut hearing, channel).await;
        if result.is_err() {
            hearing.close();
            hearing.failed = Some(PreciseClock.precise());
        }
        result
    }

    async fn join_with(self: &Arc<Self>, hearing: &mut Hearing, channel: &str) -> Result<u64, Failed> {
        if hearing.sink.is_none() {
            let rests = |failed: Instant| PreciseClock.precise().saturating_duration_since(failed) < REST;
            if hearing.failed.is_some_and(rests) {
                return Err(Failed::late());
            }
            let (sink, stream) = self.link.hear().await?;
            hearing.era += 1;
            hearing.sink = Some(sink);
            hearing.reader = Some(smol::spawn(read(Arc::downgrade(self), stream, hearing.era)));
        }
        let count = hearing.joined.get(channel).copied().unwrap_or(0);
        if count == 0
            && let Some(sink) = &mut hearing.sink
        {
            within(self.link.until(), async { Ok(sink.subscribe(channel).await?) }).await?;
        }
        hearing.joined.insert(channel.into(), count + 1);
        Ok(hearing.era)
    }

    async fn leave(self: Arc<Self>, channel: Box<str>, era: u64) {
        let mut hearing = self.hearing.lock().await;
        if hearing.era != era {
            return;
        }
        match hearing.joined.get_mut(&channel) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                hearing.joined.remove(&channel);
                if let Some(sink) = &mut hearing.sink {
                    let left =
                        within(self.link.until(), async { Ok(sink.unsubscribe(&*channel).await?) }).await;
                    if left.is_err() {
                        hearing.close();
                    }
                }
            }
            None => {}
        }
    }

    fn ring(&self, channel: Option<&str>) {
        let bells = lock_plain(&self.bells);
        let rung: Vec<Arc<Bell>> = match channel {
            Some(channel) => bells.get(channel).cloned().unwrap_or_default(),
            None => bells.values().flatten().cloned().collect(),
        };
        drop(bells);
        rung.iter().for_each(|bell| bell.ring());
    }
}

/// Rings for what comes, until the connection ends.
async fn read(wakes: Weak<Wakes>, mut stream: PubSubStream, era: u64) {
    while let Some(message) = stream.next().await {
        let Some(wakes) = wakes.upgrade() else { return };
        wakes.ring(Some(message.get_channel_name()));
    }
    let Some(wakes) = wakes.upgrade() else { return };
    let mut hearing = wakes.hearing.lock().await;
    if hearing.era == era {
        hearing.sink = None;
        hearing.joined.clear();
    }
    drop(hearing);
    wakes.ring(None);
}

/// One that listens to a key's channel.
pub(super) struct Ear {
    wakes: Arc<Wakes>,
    channel: Box<str>,
    bell: Arc<Bell>,
    /// `None`: it hears nothing.
    era: Option<u64>,
}

impl Ear {
    /// Waits until the lock may be free, and no longer than that.
    pub(super) async fn wait(&self, at_most: Duration) {
        let over = async {
            smol::Timer::after(at_most).await;
        };
        smol::future::or(self.bell.heard(), over).await;
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut bells = lock_plain(&self.wakes.bells);
        if let Some(own) = bells.get_mut(&self.channel) {
            own.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
            if own.is_empty() {
                bells.remove(&self.channel);
            }
        }
        drop(bells);
        if let Some(era) = self.era {
            let channel = std::mem::take(&mut self.channel);
            smol::spawn(Arc::clone(&self.wakes).leave(channel, era)).detach();
        }
    }
}
