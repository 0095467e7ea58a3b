//! What begins with a prefix: looked for with `SCAN`, on all masters, some hundred keys at a time. Keys that come and go
//! meanwhile may be seen or not; those that are there all the time are.
#![forbid(unsafe_code)]

use super::entries::{Core, Layout, bytes, is_one, number};
use super::failed::Failed;
use super::link::Via;
use super::script::{self, Order};
use crate::backend::{LockInfo, Stored};
use crate::error::Error;
use redis::Value;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// So many keys are looked through by one command.
const COUNT: usize = 500;

/// A pattern that matches what begins so, and nothing else.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

impl Core {
    /// Not without a prefix: the database may have keys of other applications.
    pub(super) async fn clear(&self, via: Via, prefix: &str) -> Result<bool, Error> {
        if prefix.is_empty() {
            return Ok(false);
        }
        let mut scan = Scan::new(self, via, "redis clear", prefix).await?;
        while let Some(keys) = scan.next().await? {
            self.delete_multi(via, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        }
        Ok(true)
    }

    pub(super) async fn locks(&self, via: Via, prefix: &str) -> Result<Option<Vec<LockInfo>>, Error> {
        const NAME: &str = "redis locks";
        if !self.has_lock {
            return Ok(None);
        }
        let is_hash = self.layout() == Layout::Hash;
        let before = if is_hash { "" } else { &*self.lock_prefix };
        let mut locks = BTreeMap::new();
        let mut scan = Scan::new(self, via, NAME, &[before, prefix].concat()).await?;
        while let Some(keys) = scan.next().await? {
            let orders = keys.iter().flat_map(|key| {
                if is_hash {
                    vec![Order::run(&script::LOCKED, &[key])]
                } else {
                    vec![Order::new("PTTL").arg(key), Order::new("GET").arg(key)]
                }
            });
            let mut replies = self.link.ask(via, NAME, orders.collect()).await?.into_iter();
            for key in keys {
                let (left, since, token) = match (replies.next(), is_hash) {
                    (Some(Value::Array(fields)), true) => {
                        let mut fields = fields.into_iter();
                        (fields.next(), fields.next(), fields.next())
                    }
                    (left, _) => (left, None, replies.next()),
                };
                // No time left: nobody has it. A lock of Python's may have no end, which is -1.
                let left = left.as_ref().map_or(Ok(0), number).map_err(|failed| failed.by(NAME))?;
                if left == 0 || left < -1 {
                    continue;
                }
                let time = |millis: i64| u64::try_from(millis).ok().map(Duration::from_millis);
                let mut info = LockInfo::new(&key[before.len()..]);
                info.left = time(left);
                info.held_for = since.as_ref().and_then(|since| number(since).ok()).and_then(time);
                let token = token.and_then(|token| bytes(token).ok()).flatten();
                let text = token.as_ref().and_then(Stored::bytes).map(String::from_utf8_lossy);
                info.holder = text.map(|text| text.chars().take(8).collect());
                locks.insert(key, info);
            }
        }
        Ok(Some(locks.into_values().collect()))
    }

    /// Not without a prefix, as `clear`.
    pub(super) async fn len(&self, via: Via, prefix: &str) -> Result<Option<u64>, Error> {
        const NAME: &str = "redis len";
        if prefix.is_empty() {
            return Ok(None);
        }
        let mut all = HashSet::new();
        let mut scan = Scan::new(self, via, NAME, prefix).await?;
        while let Some(keys) = scan.next().await? {
            let order = |key: &String| match self.layout() {
                Layout::Hash => Order::new("HEXISTS").arg(key).arg("v"),
                Layout::String => Order::new("EXISTS").arg(key),
            };
            let replies = self.link.ask(via, NAME, keys.iter().map(order).collect()).await?;
            for (key, reply) in keys.into_iter().zip(&replies) {
                if is_one(reply).map_err(|failed| failed.by(NAME))? {
                    all.insert(key);
                }
            }
        }
        Ok(Some(all.len() as u64))
    }
}

/// The keys that begin so, on all masters, in batches. One may come twice.
struct Scan<'c> {
    core: &'c Core,
    via: Via,
    operation: &'static str,
    pattern: String,
    /// Those of a cluster that are to come.
    masters: Vec<(String, u16)>,
    /// `None`: nothing is left here.
    cursor: Option<Vec<u8>>,
}

impl<'c> Scan<'c> {
    async fn new(core: &'c Core, via: Via, operation: &'static str, prefix: &str) -> Result<Self, Error> {
        let masters = core.link.masters(operation).await?;
        Ok(Self { core, via, operation, pattern: pattern(prefix), masters, cursor: Some(b"0".to_vec()) })
    }

    async fn next(&mut self) -> Result<Option<Vec<String>>, Error> {
        if self.cursor.is_none() {
            // One server is no list of masters.
            if self.masters.pop().is_none() || self.masters.is_empty() {
                return Ok(None);
            }
            self.cursor = Some(b"0".to_vec());
        }
        let link = &self.core.link;
        let kind = if self.core.layout() == Layout::Hash { "hash" } else { "string" };
        let cursor = self.cursor.as_deref().unwrap_or(b"0");
        let order = Order::new("SCAN").arg(cursor).arg("MATCH").arg(&self.pattern);
        let order = order.arg("COUNT").arg(COUNT).arg("TYPE").arg(kind);
        let reply = match self.masters.last() {
            Some(master) => link.ask_master(self.operation, master, order).await?,
            None => link.ask_one(self.via, self.operation, order).await?,
        };
        let parts = if let Value::Array(parts) = reply { parts } else { Vec::new() };
        let [Value::BulkString(next), Value::Array(keys)] = parts.as_slice() else {
            return Err(Failed::strange().by(self.operation));
        };
        self.cursor = (next != b"0").then(|| next.clone());
        let text = |key: &Value| match key {
            // A key that is no text is not ours.
            Value::BulkString(key) => String::from_utf8(key.clone()).ok(),
            _ => None,
        };
        Ok(Some(keys.iter().filter_map(text).collect()))
    }
}
