//! Entries: read, written, taken out. Each operation once, for threads and for tasks.
//!
//! In our own envelope an entry is a hash, and each change of it one script (`script.rs`). In others it is a string, as
//! dogpile.cache and cachetory have it, and what depends on what is there compares the bytes.
#![forbid(unsafe_code)]

use super::failed::Failed;
use super::keeper::Keeper;
use super::link::{SharedLink, Via};
use super::mutex::Held;
use super::script::{self, Order};
use super::wakes::Wakes;
use crate::backend::{Put, Stored};
use crate::codec::Envelope;
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, OnceLock};
use redis::Value;
use std::time::Duration;

/// How an entry lies in the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Hash,
    String,
}

impl From<Envelope> for Layout {
    fn from(envelope: Envelope) -> Self {
        if envelope == Envelope::Own { Self::Hash } else { Self::String }
    }
}

/// How often a conditional write begins again because another write came between.
const TRIES: usize = 100;
/// No time to live is longer: what the server adds the time of day to.
const LONGEST: u64 = 1 << 52;

/// What a backend is made of.
pub(super) struct Core {
    pub(super) link: SharedLink,
    pub(super) layout: OnceLock<Layout>,
    /// If no region says otherwise.
    pub(super) envelope: Envelope,
    /// Of entries that no region gives one.
    pub(super) ttl: Option<Duration>,
    pub(super) lease: Duration,
    pub(super) has_lock: bool,
    pub(super) lock_prefix: Box<str>,
    pub(super) wakes: Arc<Wakes>,
    pub(super) keeper: Arc<Keeper>,
}

/// What a write knows of the state that it wants to find.
struct Before {
    stored: Option<Stored>,
    /// As the layout has it: an epoch, or nothing.
    epoch: Vec<u8>,
}

pub(super) fn bytes(value: Value) -> Result<Option<Stored>, Failed> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(Stored::Bytes(bytes.into()))),
        Value::SimpleString(text) => Ok(Some(Stored::Bytes(text.into_bytes().into()))),
        _ => Err(Failed::strange()),
    }
}

pub(super) fn number(value: &Value) -> Result<i64, Failed> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::Boolean(is) => Ok(i64::from(*is)),
        _ => Err(Failed::strange()),
    }
}

pub(super) fn is_one(value: &Value) -> Result<bool, Failed> {
    Ok(number(value)? == 1)
}

/// A time as whole milliseconds, at least one.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(LONGEST).clamp(1, LONGEST)
}

impl Core {
    pub(super) fn layout(&self) -> Layout {
        *self.layout.get_or_init(|| self.envelope.into())
    }

    pub(super) fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        let layout = Layout::from(envelope);
        if *self.layout.get_or_init(|| layout) == layout {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Config, "backend `redis`").detail(
            "it has entries of another envelope, and keeps them otherwise: give each region a backend of its own, or \
             one envelope",
        ))
    }

    fn value_of<'p>(&self, put: &Put<'p>) -> Result<&'p [u8], Error> {
        let value: &'p Stored = put.value;
        value
            .bytes()
            .ok_or_else(|| Error::new(ErrorKind::WrongType, "redis SET").detail("only bytes are stored"))
    }

    /// The time to live, as scripts have it: nothing, if there is none.
    fn ttl_of(&self, put: &Put<'_>) -> String {
        put.ttl.or(self.ttl).map_or_else(String::new, |ttl| millis(ttl).to_string())
    }

    // ---- orders

    fn get_order(&self, key: &str) -> Order {
        match self.layout() {
            Layout::Hash => Order::new("HGET").arg(key).arg("v"),
            Layout::String => Order::new("GET").arg(key),
        }
    }

    fn delete_order(&self, key: &str) -> Order {
        match self.layout() {
            Layout::Hash => Order::run(&script::DELETE, &[key]).arg(millis(self.lease)),
            Layout::String => Order::new("DEL").arg(key),
        }
    }

    fn set_order(&self, put: &Put<'_>) -> Result<Order, Error> {
        if put.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Ok(self.delete_order(put.key));
        }
        let (value, ttl) = (self.value_of(put)?, self.ttl_of(put));
        Ok(match self.layout() {
            Layout::Hash => Order::run(&script::WRITE, &[put.key]).arg(value).arg(ttl).arg("any"),
            Layout::String if ttl.is_empty() => Order::new("SET").arg(put.key).arg(value),
            Layout::String => Order::new("SET").arg(put.key).arg(value).arg("PX").arg(ttl),
        })
    }

    // ---- operations

    pub(super) async fn get(&self, via: Via, key: &str) -> Result<Option<Stored>, Error> {
        let reply = self.link.ask_one(via, "redis GET", self.get_order(key)).await?;
        bytes(reply).map_err(|failed| failed.by("redis GET"))
    }

    pub(super) async fn get_multi(&self, via: Via, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        let orders = keys.iter().map(|key| self.get_order(key)).collect();
        let replies = self.link.ask(via, "redis get_multi", orders).await?;
        replies.into_iter().map(|reply| bytes(reply).map_err(|failed| failed.by("redis get_multi"))).collect()
    }

    pub(super) async fn set(&self, via: Via, put: Put<'_>) -> Result<(), Error> {
        self.link.ask_one(via, "redis SET", self.set_order(&put)?).await.map(drop)
    }

    pub(super) async fn set_multi(&self, via: Via, puts: &[Put<'_>]) -> Result<(), Error> {
        let mut orders = Vec::with_capacity(puts.len());
        for (i, put) in puts.iter().enumerate() {
            // In a cluster nothing keeps two writes of one key in their order: the last one counts.
            let is_last =
                !self.link.target().is_cluster() || puts[i + 1..].iter().all(|next| next.key != put.key);
            if is_last {
                orders.push(self.set_order(put)?);
            }
        }
        self.link.ask(via, "redis set_multi", orders).await.map(drop)
    }

    pub(super) async fn delete(&self, via: Via, key: &str) -> Result<bool, Error> {
        let reply = self.link.ask_one(via, "redis DEL", self.delete_order(key)).await?;
        is_one(&reply).map_err(|failed| failed.by("redis DEL"))
    }

    pub(super) async fn delete_multi(&self, via: Via, keys: &[&str]) -> Result<(), Error> {
        let orders = keys.iter().map(|key| self.delete_order(key)).collect();
        self.link.ask(via, "redis delete_multi", orders).await.map(drop)
    }

    pub(super) async fn expire(&self, via: Via, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return self.delete(via, key).await;
        }
        let ttl = ttl.map(millis);
        let orders = match (self.layout(), ttl) {
            (Layout::Hash, ttl) => {
                let ttl = ttl.map_or_else(String::new, |ttl| ttl.to_string());
                vec![Order::run(&script::EXPIRE, &[key]).arg(ttl)]
            }
            (Layout::String, Some(ttl)) => vec![Order::new("PEXPIRE").arg(key).arg(ttl)],
            (Layout::String, None) => {
                vec![Order::new("EXISTS").arg(key), Order::new("PERSIST").arg(key)]
            }
        };
        let replies = self.link.ask(via, "redis PEXPIRE", orders).await?;
        replies.first().map_or(Ok(false), is_one).map_err(|failed| failed.by("redis PEXPIRE"))
    }

    // ---- conditional writes

    pub(super) async fn set_unless(
        &self,
        via: Via,
        puts: &[Put<'_>],
        keeps: &(impl Fn(usize, Option<&Stored>) -> bool + ?Sized),
    ) -> Result<Vec<bool>, Error> {
        const NAME: &str = "redis set_unless";
        let mut written = vec![false; puts.len()];
        let mut left: Vec<usize> = (0..puts.len()).collect();
        for _ in 0..TRIES {
            let before = self.before(via, puts, &left).await?;
            let (mut orders, mut asked, mut later) = (Vec::new(), Vec::new(), Vec::new());
            for (i, before) in left.into_iter().zip(before) {
                // One key twice in a batch: the second one comes when it is known what the first has left.
                if asked.iter().any(|other: &usize| puts[*other].key == puts[i].key) {
                    later.push(i);
                    continue;
                }
                if let Some(before) = &before
                    && keeps(i, before.stored.as_ref())
                {
                    continue;
                }
                orders.push(self.conditional(&puts[i], before.as_ref())?);
                asked.push(i);
            }
            let replies = self.link.ask(via, NAME, orders).await?;
            for (i, reply) in asked.into_iter().zip(&replies) {
                let is_put = is_one(reply).map_err(|failed| failed.by(NAME))?;
                written[i] = is_put;
                match Held::of(puts[i].fence) {
                    // What newer state has refused stays so; what was put in has given the lock back, if there is one step
                    // for both.
                    Some(held) if is_put && held.is_given_back_by_writes() => self.keeper.let_go(held),
                    Some(_) => {}
                    None if !is_put => later.push(i),
                    None => {}
                }
            }
            if later.is_empty() {
                return Ok(written);
            }
            later.sort_unstable();
            left = later;
        }
        Err(Failed::new(ErrorKind::Unavailable, "the key is written so often that no turn was to be had")
            .by(NAME))
    }

    /// What the keys have, of those that are not fenced.
    async fn before(&self, via: Via, puts: &[Put<'_>], of: &[usize]) -> Result<Vec<Option<Before>>, Error> {
        const NAME: &str = "redis set_unless";
        let asks = |i: &&usize| Held::of(puts[**i].fence).is_none();
        let order = |i: &usize| match self.layout() {
            Layout::Hash => Order::new("HMGET").arg(puts[*i].key).arg("v").arg("e"),
            Layout::String => self.get_order(puts[*i].key),
        };
        let orders = of.iter().filter(asks).map(order).collect();
        let mut replies = self.link.ask(via, NAME, orders).await?.into_iter();
        let mut read = || -> Result<Before, Failed> {
            match (self.layout(), replies.next()) {
                (Layout::Hash, Some(Value::Array(fields))) => {
                    let mut fields = fields.into_iter();
                    let stored = bytes(fields.next().unwrap_or(Value::Nil))?;
                    let epoch = bytes(fields.next().unwrap_or(Value::Nil))?;
                    let epoch =
                        epoch.as_ref().and_then(Stored::bytes).map(<[u8]>::to_vec).unwrap_or_default();
                    Ok(Before { stored, epoch })
                }
                (Layout::String, Some(value)) => Ok(Before { stored: bytes(value)?, epoch: Vec::new() }),
                _ => Err(Failed::strange()),
            }
        };
        of.iter()
            .map(|i| if asks(&i) { read().map(Some).map_err(|failed| failed.by(NAME)) } else { Ok(None) })
            .collect()
    }

    /// Writes if nothing newer has come: since the lock was taken, or since `before` was read.
    fn conditional(&self, put: &Put<'_>, before: Option<&Before>) -> Result<Order, Error> {
        let held = Held::of(put.fence);
        let value = self.value_of(put)?;
        // A value that is over at once is written all the same, for a moment: so it takes the place of what was there.
        let ttl = self.ttl_of(put);
        Ok(match self.layout() {
            Layout::Hash => {
                let epoch = match (&held, before) {
                    (Some(held), _) => held.epoch().as_bytes(),
                    (None, Some(before)) => &before.epoch,
                    (None, None) => b"",
                };
                Order::run(&script::WRITE, &[put.key]).arg(value).arg(ttl).arg(epoch)
            }
            Layout::String => {
                let stored = match (&held, before) {
                    (Some(held), _) => held.found(),
                    (None, before) => before.and_then(|before| before.stored.as_ref()),
                };
                let was = stored.and_then(Stored::bytes);
                let order = match held.filter(|held| held.is_given_back_by_writes()) {
                    Some(held) => Order::run(&script::COMPARE_AND_SET, &[put.key, held.lock_key()]),
                    None => Order::run(&script::COMPARE_AND_SET, &[put.key]),
                };
                let order = order.arg(value).arg(ttl).arg(u8::from(was.is_some())).arg(was.unwrap_or(b""));
                order.arg(held.map_or("", Held::token))
            }
        })
    }
}
