//! The tiers, for threads and for tasks: the same steps, with and without waiting.
#![forbid(unsafe_code)]

use super::message::What;
use super::{After, Filling, TieredBackend, Tiers, Writing};
use crate::backend::bus::Bus;
use crate::backend::{
    AsyncBackend, AsyncCacheMutex, Backend, BoxFuture, CacheMutex, LockInfo, Opened, Put, Stored, Takes,
};
use crate::codec::{Codec, Envelope};
use crate::error::Error;
use crate::sync::Arc;
use std::future::ready;
use std::time::Duration;

/// What the near tier has of many keys, and the reads of the others that are begun.
struct Batch<'k> {
    found: Vec<Option<Stored>>,
    missing: Vec<(usize, &'k str, Filling)>,
}

impl Tiers {
    fn look<'k>(&self, keys: &[&'k str]) -> Batch<'k> {
        let found: Vec<Option<Stored>> = keys.iter().map(|key| self.near_now(key)).collect();
        let missing = (0..keys.len()).filter(|i| found[*i].is_none());
        let missing = missing.map(|i| (i, keys[i], self.begin(keys[i]))).collect();
        Batch { found, missing }
    }

    fn looked(
        &self,
        batch: Batch<'_>,
        answer: Result<Vec<Option<Stored>>, Error>,
    ) -> Result<Vec<Option<Stored>>, Error> {
        let Batch { mut found, missing } = batch;
        match answer {
            Ok(answers) => {
                for ((i, key, filling), answer) in missing.into_iter().zip(answers) {
                    found[i] = self.filled(key, &filling, Ok(answer))?;
                }
            }
            Err(error) => {
                for (i, key, filling) in missing {
                    found[i] = self.filled(key, &filling, Err(error.clone()))?;
                }
            }
        }
        Ok(found)
    }

    /// After a `set`. One that failed may have been done, and is the newest that this process knows of (T4).
    fn set_done(&self, writing: &Writing, puts: &[Put<'_>]) {
        self.written(
            writing,
            puts.iter().map(|put| (put.key, after_of(put, After::Has(put.value, put.ttl)))),
        );
    }

    /// After a `set_unless`: what was made is kept here, if the far tier could not be asked (T4). It may have refused.
    fn set_unless_done(&self, writing: &Writing, puts: &[Put<'_>], done: Option<&Result<Vec<bool>, Error>>) {
        let Some(done) = done else { return };
        let after = |i: usize| match done {
            Err(_) => After::MayHave(puts[i].value, puts[i].ttl),
            Ok(done) if done.get(i) == Some(&true) => After::Has(puts[i].value, puts[i].ttl),
            Ok(_) => After::Nothing,
        };
        self.written(writing, (0..puts.len()).map(|i| (puts[i].key, after_of(&puts[i], after(i)))));
    }
}

/// What ends at once is not there.
fn after_of<'a>(put: &Put<'a>, after: After<'a>) -> After<'a> {
    if put.ttl == Some(Duration::ZERO) { After::Nothing } else { after }
}

/// After an `expire`.
fn expired(ttl: Option<Duration>, done: &Result<bool, Error>) -> After<'static> {
    match done {
        Ok(true) if ttl != Some(Duration::ZERO) => After::Lasts(ttl),
        _ => After::Nothing,
    }
}

fn names<'a>(puts: &[Put<'a>]) -> Vec<&'a str> {
    puts.iter().map(|put| put.key).collect()
}

/// The keys that were put in.
fn put_in<'a>(puts: &[Put<'a>], done: Option<&Result<Vec<bool>, Error>>) -> Vec<&'a str> {
    let Some(Ok(done)) = done else { return Vec::new() };
    puts.iter().zip(done).filter(|(_, is_put)| **is_put).map(|(put, _)| put.key).collect()
}

impl Backend for TieredBackend {
    #[inline]
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        if let Some(stored) = self.tiers.near_now(key) {
            return Ok(Some(stored));
        }
        let filling = self.tiers.begin(key);
        let answer = self.tiers.far()?.get(key);
        self.tiers.filled(key, &filling, answer)
    }

    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        Backend::set_multi(self, &[put])
    }

    fn delete(&self, key: &str) -> Result<bool, Error> {
        let writing = self.tiers.writing([key].into_iter());
        let done = self.tiers.far()?.delete(key);
        self.tiers.written(&writing, [(key, After::Nothing)].into_iter());
        if done.is_ok() {
            self.tiers.tell_now(What::Keys(vec![key]));
        }
        done
    }

    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        let batch = self.tiers.look(keys);
        if batch.missing.is_empty() {
            return Ok(batch.found);
        }
        let missing: Vec<&str> = batch.missing.iter().map(|(_, key, _)| *key).collect();
        let answer = self.tiers.far()?.get_multi(&missing);
        self.tiers.looked(batch, answer)
    }

    fn set_multi(&self, puts: &[Put<'_>]) -> Result<(), Error> {
        let writing = self.tiers.writing(puts.iter().map(|put| put.key));
        let far = self.tiers.far()?;
        let done = if let [put] = puts { far.set(*put) } else { far.set_multi(puts) };
        self.tiers.set_done(&writing, puts);
        if done.is_ok() {
            self.tiers.tell_now(What::Keys(names(puts)));
        }
        done
    }

    fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        let writing = self.tiers.writing(keys.iter().copied());
        let done = self.tiers.far()?.delete_multi(keys);
        self.tiers.written(&writing, keys.iter().map(|key| (*key, After::Nothing)));
        if done.is_ok() {
            self.tiers.tell_now(What::Keys(keys.to_vec()));
        }
        done
    }

    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        let writing = self.tiers.writing(puts.iter().map(|put| put.key));
        let done = match self.tiers.far() {
            Ok(far) => far.set_unless(puts, keeps),
            Err(error) => Some(Err(error)),
        };
        self.tiers.set_unless_done(&writing, puts, done.as_ref());
        let told = put_in(puts, done.as_ref());
        if !told.is_empty() {
            self.tiers.tell_now(What::Keys(told));
        }
        done
    }

    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        let writing = self.tiers.writing([key].into_iter());
        let done = self.tiers.far()?.expire(key, ttl);
        self.tiers.written(&writing, [(key, expired(ttl, &done))].into_iter());
        if done.is_ok() {
            self.tiers.tell_now(What::Keys(vec![key]));
        }
        done
    }

    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        self.tiers.drop_prefix(prefix);
        let done = self.tiers.far()?.clear(prefix);
        self.tiers.drop_prefix(prefix);
        if done.is_ok() {
            self.tiers.tell_now(What::Prefix(prefix));
        }
        done
    }

    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        self.tiers.far()?.len(prefix)
    }

    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        self.tiers.far().ok()?.mutex(key)
    }

    fn locks(&self, prefix: &str) -> Result<Option<Vec<LockInfo>>, Error> {
        self.tiers.far()?.locks(prefix)
    }

    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        match &self.tiers.blocking {
            Some(far) => far.attach(envelope),
            None => self.tiers.awaiting.attach(envelope),
        }
    }

    fn keeps(&self) -> bool {
        true
    }

    fn keep(&self, key: &str, opened: &Arc<Opened>) {
        self.tiers.keep(key, opened);
    }

    fn takes(&self) -> Takes {
        Takes::Bytes
    }

    fn codec(&self) -> Option<Codec> {
        self.tiers.awaiting.codec()
    }

    fn mangle(&self, key: &str) -> Option<String> {
        self.tiers.awaiting.mangle(key)
    }

    fn mangles(&self) -> bool {
        self.tiers.awaiting.mangles()
    }

    fn bus(&self) -> Option<Arc<dyn Bus>> {
        self.tiers.bus.clone()
    }

    fn name(&self) -> &'static str {
        "tiered"
    }
}

/// A hit is there when its future is made.
///
/// # Cancel safety
/// A write that is dropped may have been done, and not been told: others find out after 2 × `near_ttl` at the latest. The near
/// tier of this process forgets what it has of its keys. A far tier whose writes run on threads may do one later, after another
/// read: then this process finds out like the others.
impl AsyncBackend for TieredBackend {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        if let Some(stored) = self.tiers.near_now(key) {
            return Box::pin(ready(Ok(Some(stored))));
        }
        Box::pin(async move {
            let filling = self.tiers.begin(key);
            let answer = self.tiers.awaiting.get(key).await;
            self.tiers.filled(key, &filling, answer)
        })
    }

    fn set<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { AsyncBackend::set_multi(self, &[put]).await })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let mut change = Change::begin(&self.tiers, vec![key]);
            let done = self.tiers.awaiting.delete(key).await;
            change.end(|tiers, writing| tiers.written(writing, [(key, After::Nothing)].into_iter()));
            if done.is_ok() {
                self.tiers.tell(What::Keys(vec![key])).await;
            }
            done
        })
    }

    fn get_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Stored>>, Error>> {
        Box::pin(async move {
            let batch = self.tiers.look(keys);
            if batch.missing.is_empty() {
                return Ok(batch.found);
            }
            let missing: Vec<&str> = batch.missing.iter().map(|(_, key, _)| *key).collect();
            let answer = self.tiers.awaiting.get_multi(&missing).await;
            self.tiers.looked(batch, answer)
        })
    }

    fn set_multi<'a>(&'a self, puts: &'a [Put<'a>]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let mut change = Change::begin(&self.tiers, names(puts));
            let far = &self.tiers.awaiting;
            let done = if let [put] = puts { far.set(*put).await } else { far.set_multi(puts).await };
            change.end(|tiers, writing| tiers.set_done(writing, puts));
            if done.is_ok() {
                self.tiers.tell(What::Keys(names(puts))).await;
            }
            done
        })
    }

    fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let mut change = Change::begin(&self.tiers, keys.to_vec());
            let done = self.tiers.awaiting.delete_multi(keys).await;
            change.end(|tiers, writing| {
                tiers.written(writing, keys.iter().map(|key| (*key, After::Nothing)));
            });
            if done.is_ok() {
                self.tiers.tell(What::Keys(keys.to_vec())).await;
            }
            done
        })
    }

    fn set_unless<'a>(
        &'a self,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        Box::pin(async move {
            let mut change = Change::begin(&self.tiers, names(puts));
            let done = self.tiers.awaiting.set_unless(puts, keeps).await;
            change.end(|tiers, writing| tiers.set_unless_done(writing, puts, done.as_ref()));
            let told = put_in(puts, done.as_ref());
            if !told.is_empty() {
                self.tiers.tell(What::Keys(told)).await;
            }
            done
        })
    }

    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let mut change = Change::begin(&self.tiers, vec![key]);
            let done = self.tiers.awaiting.expire(key, ttl).await;
            let after = expired(ttl, &done);
            change.end(|tiers, writing| tiers.written(writing, [(key, after)].into_iter()));
            if done.is_ok() {
                self.tiers.tell(What::Keys(vec![key])).await;
            }
            done
        })
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            self.tiers.drop_prefix(prefix);
            let done = self.tiers.awaiting.clear(prefix).await;
            self.tiers.drop_prefix(prefix);
            if done.is_ok() {
                self.tiers.tell(What::Prefix(prefix)).await;
            }
            done
        })
    }

    fn len<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        self.tiers.awaiting.len(prefix)
    }

    fn mutex(&self, key: &str) -> Option<Box<dyn AsyncCacheMutex>> {
        self.tiers.awaiting.mutex(key)
    }

    fn locks<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<Vec<LockInfo>>, Error>> {
        self.tiers.awaiting.locks(prefix)
    }

    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        self.tiers.awaiting.attach(envelope)
    }

    fn keeps(&self) -> bool {
        true
    }

    fn keep(&self, key: &str, opened: &Arc<Opened>) {
        self.tiers.keep(key, opened);
    }

    fn takes(&self) -> Takes {
        Takes::Bytes
    }

    fn codec(&self) -> Option<Codec> {
        self.tiers.awaiting.codec()
    }

    fn mangle(&self, key: &str) -> Option<String> {
        self.tiers.awaiting.mangle(key)
    }

    fn mangles(&self) -> bool {
        self.tiers.awaiting.mangles()
    }

    fn bus(&self) -> Option<Arc<dyn Bus>> {
        self.tiers.bus.clone()
    }

    fn name(&self) -> &'static str {
        "tiered"
    }
}

/// A write of a task's. Dropped before it has ended: of its keys nothing is known.
struct Change<'a> {
    tiers: &'a Tiers,
    keys: Vec<&'a str>,
    writing: Option<Writing>,
}

impl<'a> Change<'a> {
    fn begin(tiers: &'a Tiers, keys: Vec<&'a str>) -> Self {
        let writing = Some(tiers.writing(keys.iter().copied()));
        Self { tiers, keys, writing }
    }

    fn end(&mut self, done: impl FnOnce(&Tiers, &Writing)) {
        if let Some(writing) = self.writing.take() {
            done(self.tiers, &writing);
        }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let nothing = self.keys.iter().map(|key| (*key, After::Nothing));
        if let Some(writing) = self.writing.take() {
            self.tiers.written(&writing, nothing);
        }
    }
}
