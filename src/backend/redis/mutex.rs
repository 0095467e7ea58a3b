//! The store's lock: who makes a key's value, of all processes.
//!
//! In our own envelope it is two fields of the entry's hash; in others a key of its own beside the entry, `_lock<key>`, that
//! Python's processes take, too. Its token is the taker's, so that a question that was asked twice, or whose reply nobody
//! got, is known again. The lease is short, and renewed while the holder lives (`keeper.rs`).
#![forbid(unsafe_code)]

use super::entries::{Core, Layout, bytes, millis, number};
use super::failed::Failed;
use super::keeper::Keeper;
use super::link::Via;
use super::script::{self, Order};
use crate::backend::{AsyncCacheMutex, BoxFuture, CacheMutex, Fence, Stored};
use crate::error::Error;
use crate::sync::{Arc, LazyLock, Ordering, PlainMutex, lock_plain, plain::AtomicBool, plain::AtomicU64};
use crate::time::{Clock, PreciseClock};
use redis::Value;
use smol::future::block_on;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Who waits looks after so long at the latest, and then after twice that, up to a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const NAME: &str = "redis lock";

/// No other process has it, nor this one twice; nor a copy of this process.
fn new_token() -> String {
    static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Relaxed: the numbers need only differ.
    format!("{:016x}{:x}-{:x}", *SEED, std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A lock, and what was known when it was taken: a fence is this.
pub(super) struct Held {
    layout: Layout,
    key: Box<str>,
    /// The key of the lock, where it is one.
    lock_key: Box<str>,
    token: String,
    epoch: String,
    found: Option<Stored>,
    /// Whether a write can give it back in one step.
    is_beside: bool,
    is_given_back: AtomicBool,
}

impl Held {
    pub(super) fn of(fence: Option<&Fence>) -> Option<&Self> {
        fence?.get::<Arc<Self>>().map(|held| &**held)
    }

    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }
    pub(super) fn found(&self) -> Option<&Stored> {
        self.found.as_ref()
    }
    pub(super) fn token(&self) -> &str {
        &self.token
    }
    pub(super) fn lock_key(&self) -> &str {
        &self.lock_key
    }
    pub(super) fn is_given_back_by_writes(&self) -> bool {
        self.is_beside
    }
    pub(super) fn given_back(&self) {
        // Relaxed: it only spares its holder a question.
        self.is_given_back.store(true, Ordering::Relaxed);
    }

    pub(super) fn renew_order(&self, lease: Duration) -> Order {
        let order = match self.layout {
            Layout::Hash => Order::run(&script::RENEW, &[&self.key]),
            Layout::String => Order::run(&script::RENEW_STRING, &[&self.lock_key]),
        };
        order.arg(&self.token).arg(millis(lease))
    }

    pub(super) fn release_order(&self) -> Order {
        match self.layout {
            Layout::Hash => Order::run(&script::RELEASE, &[&self.key]).arg(&self.token),
            Layout::String => {
                Order::run(&script::RELEASE_STRING, &[&self.lock_key]).arg(&self.token).arg(&*self.key)
            }
        }
    }
}

/// One that is being asked for. Dropped, it is given back in case it was got.
struct Asked<'k> {
    keeper: &'k Arc<Keeper>,
    held: Option<Held>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.keeper.give_back(Arc::new(held));
        }
    }
}

/// What came of a try.
enum Tried {
    Taken(Arc<Held>),
    /// For how long it is another's at the most, if that is known.
    Refused(Option<Duration>),
}

pub(super) struct StoreLock {
    core: Arc<Core>,
    key: Box<str>,
    held: PlainMutex<Option<Arc<Held>>>,
}

impl StoreLock {
    pub(super) fn new(core: &Arc<Core>, key: &str) -> Self {
        Self { core: Arc::clone(core), key: key.into(), held: PlainMutex::new(None) }
    }

    fn lock_key(&self) -> Box<str> {
        [&*self.core.lock_prefix, &*self.key].concat().into()
    }

    async fn try_once(&self, via: Via) -> Result<Tried, Error> {
        let core = &*self.core;
        let layout = core.layout();
        let is_cluster = core.link.target().is_cluster();
        let held = Held {
            layout,
            key: self.key.clone(),
            lock_key: self.lock_key(),
            token: new_token(),
            epoch: String::new(),
            found: None,
            is_beside: layout == Layout::Hash || !is_cluster,
            is_given_back: AtomicBool::new(false),
        };
        let (token, lease) = (held.token.clone(), millis(core.lease));
        let mut asked = Asked { keeper: &core.keeper, held: Some(held) };
        let answer = match layout {
            Layout::Hash => {
                let order = Order::run(&script::LOCK, &[&self.key]).arg(&token).arg(lease);
                fields(core.link.ask_one(via, NAME, order).await?).map_err(|failed| failed.by(NAME))?
            }
            Layout::String => self.try_string(via, &token, lease).await?,
        };
        let Some(mut held) = asked.held.take() else { return Err(Failed::strange().by(NAME)) };
        Ok(match answer {
            Answer::Taken { epoch, found } => {
                (held.epoch, held.found) = (epoch, found);
                let held = Arc::new(held);
                core.keeper.keep(&held);
                Tried::Taken(held)
            }
            Answer::Refused(left) => Tried::Refused(left),
        })
    }

    async fn try_string(&self, via: Via, token: &str, lease: u64) -> Result<Answer, Error> {
        let link = &self.core.link;
        let lock_key = self.lock_key();
        let take = Order::new("SET").arg(&*lock_key).arg(token).arg("NX").arg("PX").arg(lease);
        // Who holds it now: after a question that was asked twice it may be us. And for how long.
        let holder = Order::new("GET").arg(&*lock_key);
        let left = Order::new("PTTL").arg(&*lock_key);
        let value = Order::new("GET").arg(&*self.key);
        // What the key has counts from when the lock is held: in a cluster that takes another question.
        let replies = if link.target().is_cluster() {
            let mut replies = Vec::new();
            for order in [take, holder, left, value] {
                replies.push(link.ask_one(via, NAME, order).await?);
            }
            replies
        } else {
            link.ask(via, NAME, vec![take, holder, left, value]).await?
        };
        let mut replies = replies.into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let is_taken = !matches!(next(), Value::Nil);
        let is_ours = matches!(next(), Value::BulkString(holder) if holder == token.as_bytes());
        let left = next();
        if is_taken || is_ours {
            let found = bytes(next()).map_err(|failed| failed.by(NAME))?;
            return Ok(Answer::Taken { epoch: String::new(), found });
        }
        Ok(Answer::Refused(match left {
            Value::Int(left) if left >= 0 => Some(Duration::from_millis(left.unsigned_abs())),
            _ => None,
        }))
    }

    async fn take(&self, via: Via, wait: Duration) -> Result<bool, Error> {
        let until = PreciseClock.precise().saturating_add(wait);
        let is_taken = self.is_taken(self.try_once(via).await?).is_ok();
        if is_taken || wait.is_zero() {
            return Ok(is_taken);
        }
        let ear = self.core.wakes.listen(&self.key, until).await;
        let mut pause = FIRST_PAUSE;
        loop {
            let ends = match self.is_taken(self.try_once(via).await?) {
                Ok(()) => return Ok(true),
                Err(ends) => ends,
            };
            let left = until.saturating_duration_since(PreciseClock.precise());
            if left.is_zero() {
                return Ok(false);
            }
            // A holder that has died says nothing when its lease is over.
            let ends = ends.unwrap_or(Duration::MAX).saturating_add(Duration::from_millis(1));
            ear.wait(pause.min(left).min(ends)).await;
            // Python's holders say nothing at all.
            if self.core.layout() == Layout::Hash {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    fn is_taken(&self, tried: Tried) -> Result<(), Option<Duration>> {
        match tried {
            Tried::Taken(held) => {
                let former = lock_plain(&self.held).replace(held);
                if let Some(former) = former {
                    self.core.keeper.let_go(&former);
                }
                Ok(())
            }
            Tried::Refused(ends) => Err(ends),
        }
    }

    async fn give_back(&self, via: Via) -> Result<(), Error> {
        let Some(held) = lock_plain(&self.held).take() else { return Ok(()) };
        if held.is_given_back.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Whoever is cancelled here, or has no reply, gives it back all the same.
        let mut asked = Asking { keeper: &self.core.keeper, held: Some(Arc::clone(&held)) };
        self.core.keeper.let_go(&held);
        self.core.link.ask_one(via, "redis release", held.release_order()).await?;
        asked.held = None;
        Ok(())
    }

    async fn is_locked(&self, via: Via) -> Result<bool, Error> {
        let order = match self.core.layout() {
            Layout::Hash => Order::run(&script::LOCKED, &[&self.key]),
            Layout::String => Order::new("EXISTS").arg(&*self.lock_key()),
        };
        let reply = self.core.link.ask_one(via, NAME, order).await?;
        let first = match reply {
            Value::Array(fields) => fields.into_iter().next().unwrap_or(Value::Nil),
            reply => reply,
        };
        Ok(number(&first).map_err(|failed| failed.by(NAME))? > 0)
    }

    fn knows<T>(&self, what: impl FnOnce(&Arc<Held>) -> T) -> Option<T> {
        lock_plain(&self.held).as_ref().map(what)
    }
}

/// One that is being given back.
struct Asking<'k> {
    keeper: &'k Arc<Keeper>,
    held: Option<Arc<Held>>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.keeper.give_back(held);
        }
    }
}

enum Answer {
    Taken { epoch: String, found: Option<Stored> },
    Refused(Option<Duration>),
}

fn fields(reply: Value) -> Result<Answer, Failed> {
    let Value::Array(fields) = reply else { return Err(Failed::strange()) };
    let mut fields = fields.into_iter();
    match (fields.next(), fields.next(), fields.next()) {
        (Some(Value::Int(1)), Some(Value::BulkString(epoch)), found) => Ok(Answer::Taken {
            epoch: String::from_utf8(epoch).map_err(|_| Failed::strange())?,
            found: bytes(found.unwrap_or(Value::Nil))?,
        }),
        (Some(Value::Int(0)), Some(Value::Int(left)), _) => {
            Ok(Answer::Refused(Some(Duration::from_millis(left.max(0).unsigned_abs()))))
        }
        _ => Err(Failed::strange()),
    }
}

/// A lock that is held is given back.
impl Drop for StoreLock {
    fn drop(&mut self) {
        if let Some(held) = lock_plain(&self.held).take()
            && !held.is_given_back.load(Ordering::Relaxed)
        {
            self.core.keeper.give_back(held);
        }
    }
}

impl CacheMutex for StoreLock {
    fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        block_on(self.take(Via::Threads, wait))
    }
    fn release(&self) -> Result<(), Error> {
        block_on(self.give_back(Via::Threads))
    }
    fn locked(&self) -> Result<bool, Error> {
        block_on(self.is_locked(Via::Threads))
    }
    fn lease(&self) -> Option<Duration> {
        Some(self.core.lease)
    }
    fn fence(&self) -> Option<Fence> {
        self.knows(|held| Fence::new(Arc::clone(held)))
    }
    fn found(&self) -> Option<Option<Stored>> {
        self.knows(|held| held.found.clone())
    }
}

impl AsyncCacheMutex for StoreLock {
    fn acquire(&self, wait: Duration) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(self.take(Via::Tasks, wait))
    }
    fn release(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.give_back(Via::Tasks))
    }
    fn locked(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(self.is_locked(Via::Tasks))
    }
    fn lease(&self) -> Option<Duration> {
        Some(self.core.lease)
    }
    fn fence(&self) -> Option<Fence> {
        self.knows(|held| Fence::new(Arc::clone(held)))
    }
    fn found(&self) -> Option<Option<Stored>> {
        self.knows(|held| held.found.clone())
    }
}
