//! The lock of a key, and its fence.
//!
//! Two items: the lock, which ends with its lease by the server's own clock, and the key itself, whose number (CAS, which
//! the server changes with each write) is the fence.
//!
//! ```text
//! take     ms LOCK ME T<lease> token                     stored: it is ours; not stored: another's
//!          mg KEY N<lease> v f c t s                     what the key has; if nothing, an empty placeholder goes in
//!          ms KEY C<its number> T<its time> same value   a new number, ours; if it has changed meanwhile, look again
//! renew    ms LOCK C<its number> T<lease> token          at a third of its shortest time, see the module
//!          ms KEY C<our number> T<lease> same value      if the placeholder, or the old value, would end before the lease
//! write    ms KEY C<our number> new value ; md LOCK C<its number>
//! release  md LOCK C<its number> ; md KEY C<our number> if it is still the placeholder
//! ```
//!
//! Shared with Python (`Envelope::Dogpile`, `Envelope::Plain`) the lock is dogpile.cache's: `_lock<key>` by `add`, value `1`.
//! There is no placeholder, which Python would read as a value: what was missing is written by `add`. A Python `set` wins
//! over our creation then; a `delete` of what was missing leaves no trace, and does not.
//!
//! # Invariants
//! - **L1, one holder.** Only who put the lock in holds it, until its lease ends. It is renewed and deleted by its number,
//!   never another's. A number that was lost with a reply is found again by the token.
//! - **L2, the newest state stays.** A write goes through if the key's number is the one that its lock gave it. Sets, and
//!   who takes the lock after a lost lease, change that number; a delete takes it away. The placeholder is there so that
//!   even a delete of nothing is seen.
//! - **L3, readers lose nothing.** While a value is made anew the old one stays where it was, for its own time, also if its
//!   maker dies. If its time would end during the lease it stays until that ends: else nobody could tell that end from a
//!   delete, and what was made would be thrown away.
//! - **L4, a placeholder is nothing.** It is empty, and real empty values have a flag: whoever reads it says that the key is
//!   missing. Who dies leaves it for the rest of the lease; whoever comes next takes it over.
//!
//! The server is told one second more than the lease, and may make two less of it: who dies is followed after the lease less
//! a second at the earliest, and a second at the latest.
//!
//! A lost reply can only refuse a write that might have been let through. The server may evict both items: then two may
//! make the value, and the one that was evicted does not write it. A server that is started anew counts its numbers from 1
//! again: who took a lock before that, and writes after it, is refused unless the key has by chance the very same number.
//!
//! # Cost
//! Two exchanges for a creation of something that was missing: taking, and writing, which gives the lock back. One more
//! where there is an old value. Who waits looks every 10 ms, growing to 50, and asks for the lock alone: memcached has no
//! way to wake.
//!
//! # Source
//! Nishtala et al., *Scaling Memcache at Facebook*, NSDI 2013, section 3.2.1 (leases). Our departure: the right to make the
//! value is an item of its own. memcached 1.6 has such rights in the item (flags W and Z of `mg`), but without an end: once
//! `md I` has marked an item stale, any reader wins, a plain one too, and nobody ever again, so a winner that dies takes the
//! value's future with it (tried with 1.6.18, 2026-11-21). For keys that are missing `N` ends with the placeholder, and is
//! used so.
#![forbid(unsafe_code)]

use super::keys;
use super::wire::{Answer, Ask, Item, Server, When};
use super::{Core, Layout};
use crate::backend::{CacheMutex, Fence, Stored};
use crate::error::Error;
use crate::sync::plain::{AtomicBool, Ordering};
use crate::sync::{Arc, PlainMutex, Signal, lock_plain};
use crate::time::{Clock, Instant, PreciseClock};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Whoever is overtaken so often while taking the lock is overtaken.
const MOST_LOOKS: usize = 8;

/// How long who waits sleeps, at the least and the most.
const NAPS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// What the key must have for a write to go through.
enum Guarded {
    /// What has this number: the placeholder if there is no value, else that value with its flags, and when it ends.
    Item { cas: u64, old: Option<Old> },
    /// Nothing.
    Absent,
    /// Newer state has come.
    Overtaken,
}

struct Old {
    value: Arc<[u8]>,
    flags: u32,
    /// `None`: never.
    ends: Option<Instant>,
}

struct State {
    /// Of the lock. `None`: it was given back, or lost.
    lock: Option<u64>,
    guarded: Guarded,
}

/// A lock that was taken.
pub(super) struct Held {
    core: Arc<Core>,
    server: usize,
    /// As the server has it.
    key: String,
    lock: String,
    token: String,
    state: PlainMutex<State>,
    /// Nothing is to be prolonged any more. Beside the state, which is locked while the server is asked.
    is_over: AtomicBool,
}

/// The fence of a lock.
pub(super) struct Fenced(pub(super) Arc<Held>);

impl Held {
    fn server(&self) -> &dyn Server {
        &*self.core.servers[self.server]
    }

    pub(super) fn server_index(&self) -> usize {
        self.server
    }

    pub(super) fn is_over(&self) -> bool {
        // A hint: whoever prolongs looks at the state.
        self.is_over.load(Ordering::Relaxed)
    }

    fn set_lock(&self, state: &mut State, lock: Option<u64>) {
        state.lock = lock;
        self.is_over.store(lock.is_none(), Ordering::Relaxed);
    }

    fn renew_lock(&self, cas: u64) -> Ask<'_> {
        let value = self.token.as_bytes();
        Ask::Set { key: &self.lock, value, flags: 0, ttl: self.core.lease_seconds(), when: When::Same(cas) }
    }

    /// Puts the key's value in again: the same, for at least the lease.
    fn renew_key<'a>(&'a self, cas: u64, old: Option<&'a Old>, ttl: u32) -> Ask<'a> {
        let (value, flags) = old.map_or((&[][..], 0), |old| (&*old.value, old.flags));
        Ask::Set { key: &self.key, value, flags, ttl, when: When::Same(cas) }
    }

    /// Prolongs the lease.
    pub(super) fn renew(&self) -> Result<(), Error> {
        let mut state = lock_plain(&self.state);
        let Some(lock) = state.lock else { return Ok(()) };
        let longer = self.core.lease_seconds() + 1;
        let horizon = PreciseClock.now().saturating_add(Duration::from_secs(longer.into()));
        let key = match &state.guarded {
            Guarded::Item { cas, old } => {
                let ends = old.as_ref().map_or(Some(Instant::default()), |old| old.ends);
                ends.is_some_and(|ends| ends < horizon).then(|| self.renew_key(*cas, old.as_ref(), longer))
            }
            Guarded::Absent | Guarded::Overtaken => None,
        };
        let asks: Vec<Ask<'_>> = [Some(self.renew_lock(lock)), key].into_iter().flatten().collect();
        let answers = self.server().ask(&asks)?;
        match answers.get(1) {
            None => {}
            Some(Answer::Done(now)) => {
                if let Guarded::Item { cas, old } = &mut state.guarded {
                    *cas = *now;
                    old.iter_mut().for_each(|old| old.ends = Some(ends(longer)));
                }
            }
            Some(_) => state.guarded = Guarded::Overtaken,
        }
        let lock = match answers[0] {
            Answer::Done(cas) => Some(cas),
            // It is prolonged in the next turn.
            _ => self.found_again()?,
        };
        self.set_lock(&mut state, lock);
        Ok(())
    }

    /// The number of our lock, if it is still there: the reply that had it may have been lost.
    fn found_again(&self) -> Result<Option<u64>, Error> {
        let item = self.server().ask_one(Ask::get(&self.lock))?;
        Ok(match item {
            // Python's has nothing of its own in it, so it can't be told from another's.
            Answer::Item(item) if item.value == self.token.as_bytes() && self.token != ONE => Some(item.cas),
            _ => None,
        })
    }

    /// Gives it back, and the placeholder with it.
    pub(super) fn release(&self) -> Result<(), Error> {
        let mut state = lock_plain(&self.state);
        let Some(lock) = state.lock else { return Ok(()) };
        self.set_lock(&mut state, None);
        let guarded = std::mem::replace(&mut state.guarded, Guarded::Overtaken);
        let placeholder = match guarded {
            Guarded::Item { cas, old: None } => Some(Ask::Delete { key: &self.key, same: Some(cas) }),
            _ => None,
        };
        let give_back = Ask::Delete { key: &self.lock, same: Some(lock) };
        let asks: Vec<Ask<'_>> = [Some(give_back), placeholder].into_iter().flatten().collect();
        if self.server().ask(&asks)?[0] == Answer::Refused
            && let Some(lock) = self.found_again()?
        {
            self.server().ask_one(Ask::Delete { key: &self.lock, same: Some(lock) })?;
        }
        Ok(())
    }

    /// Gives back what nobody has any more, or may have been taken by a question whose reply nobody got. False: there is none,
    /// or not yet.
    pub(super) fn lay(&self) -> Result<bool, Error> {
        if lock_plain(&self.state).lock.is_some() {
            return self.release().map(|()| true);
        }
        let Some(lock) = self.found_again()? else { return Ok(false) };
        self.server().ask_one(Ask::Delete { key: &self.lock, same: Some(lock) })?;
        Ok(true)
    }

    /// Writes under the lock, and gives it back in the same exchange. False: newer state has come. `ttl`: `None` takes
    /// the key out.
    pub(super) fn write(&self, value: &[u8], flags: u32, ttl: Option<u32>) -> Result<bool, Error> {
        let mut state = lock_plain(&self.state);
        let when = match std::mem::replace(&mut state.guarded, Guarded::Overtaken) {
            Guarded::Item { cas, .. } => When::Same(cas),
            Guarded::Absent => When::Absent,
            Guarded::Overtaken => return Ok(false),
        };
        let write = match (ttl, when) {
            (Some(ttl), when) => Some(Ask::Set { key: &self.key, value, flags, ttl, when }),
            (None, When::Same(cas)) => Some(Ask::Delete { key: &self.key, same: Some(cas) }),
            (None, _) => None,
        };
        let give_back = state.lock.map(|lock| Ask::Delete { key: &self.lock, same: Some(lock) });
        let asks: Vec<Ask<'_>> = [write, give_back].into_iter().flatten().collect();
        if asks.is_empty() {
            return Ok(true);
        }
        let answers = self.server().ask(&asks)?;
        // One that was refused is looked for by `release`.
        if give_back.is_some() && !matches!(answers.last(), Some(Answer::Refused)) {
            self.set_lock(&mut state, None);
        }
        Ok(write.is_none() || matches!(answers[0], Answer::Done(_)))
    }
}

/// When what was just put in for so many seconds ends, at the earliest.
fn ends(seconds: u32) -> Instant {
    PreciseClock.now().saturating_add(Duration::from_secs(seconds.saturating_sub(2).into()))
}

/// The value of Python's lock.
const ONE: &str = "1";

/// One use of a key's lock.
pub(super) struct Lock {
    core: Arc<Core>,
    server: usize,
    key: String,
    lock: String,
    held: PlainMutex<Option<(Arc<Held>, Option<Stored>)>>,
}

impl Lock {
    pub(super) fn new(core: &Arc<Core>, key: &str) -> Self {
        let wire = keys::wire(key);
        let lock = match core.layout() {
            Layout::Own => keys::own_lock(&wire),
            Layout::Python => keys::dogpile_lock(&wire),
        };
        Self {
            server: core.choose(&wire),
            core: Arc::clone(core),
            key: wire.into_owned(),
            lock,
            held: PlainMutex::new(None),
        }
    }

    fn server(&self) -> &dyn Server {
        &*self.core.servers[self.server]
    }

    fn look(&self) -> Ask<'_> {
        let vivify = (self.core.layout() == Layout::Own).then(|| self.core.lease_seconds() + 1);
        Ask::Get { key: &self.key, has_value: true, vivify, touch: None }
    }

    /// Takes it if it is free. Who comes for the first time looks at the key in the same exchange.
    fn try_take(&self, is_first: bool) -> Result<bool, Error> {
        let token = match self.core.layout() {
            Layout::Own => format!("{:016x}{:016x}", random(), random()),
            Layout::Python => ONE.to_owned(),
        };
        let held = Arc::new(Held {
            core: Arc::clone(&self.core),
            server: self.server,
            key: self.key.clone(),
            lock: self.lock.clone(),
            token,
            state: PlainMutex::new(State { lock: None, guarded: Guarded::Overtaken }),
            is_over: AtomicBool::new(true),
        });
        let put = Ask::Set {
            key: &self.lock,
            value: held.token.as_bytes(),
            flags: 0,
            ttl: self.core.lease_seconds(),
            when: When::Absent,
        };
        let asks = [put, self.look()];
        let every = self.core.renews_after();
        let answers = match self.server().ask(if is_first { &asks } else { &asks[..1] }) {
            Ok(answers) => answers,
            Err(error) => {
                // It may have been taken all the same, or be taken yet.
                self.core.keeper.give_up(&held, every);
                return Err(error);
            }
        };
        let mut answers = answers.into_iter();
        let Some(Answer::Done(lock)) = answers.next() else { return Ok(false) };
        held.set_lock(&mut lock_plain(&held.state), Some(lock));
        // From here on it is prolonged, and given back whatever happens.
        self.core.keeper.keep(&held, every);
        match self.guard(&held, answers.next()) {
            Ok(found) => {
                *lock_plain(&self.held) = Some((held, found));
                Ok(true)
            }
            Err(error) => {
                self.core.keeper.give_up(&held, every);
                Err(error)
            }
        }
    }

    /// Makes the key's number ours. Returns what the key has.
    fn guard(&self, held: &Held, mut looked: Option<Answer>) -> Result<Option<Stored>, Error> {
        let mut state = lock_plain(&held.state);
        let lease = self.core.lease_seconds();
        let mut last = None;
        for _ in 0..MOST_LOOKS {
            let looked = match looked.take() {
                Some(looked) => looked,
                None => self.server().ask_one(self.look())?,
            };
            let item = match looked {
                Answer::Vivified(cas) => {
                    state.guarded = Guarded::Item { cas, old: None };
                    return Ok(None);
                }
                Answer::Item(item) => item,
                _ => {
                    state.guarded = Guarded::Absent;
                    return Ok(None);
                }
            };
            let Item { cas, left, .. } = item;
            let flags = item.flags;
            let old = self.core.is_value(&item).then(|| Old {
                value: item.value.into(),
                flags,
                ends: left.map(|left| ends(left.max(lease + 1))),
            });
            let seconds = match (&old, left) {
                (Some(_), None) => 0,
                (Some(_), Some(left)) => self.core.seconds(left.max(lease + 1)),
                (None, _) => lease + 1,
            };
            let same = held.renew_key(cas, old.as_ref(), seconds);
            let answer = self.server().ask_one(same)?;
            last = old.as_ref().map(|old| Stored::Bytes(Arc::clone(&old.value)));
            if let Answer::Done(cas) = answer {
                state.guarded = Guarded::Item { cas, old };
                return Ok(last);
            }
        }
        Ok(last)
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(())
}

impl CacheMutex for Lock {
    fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        let until = PreciseClock.now().saturating_add(wait);
        let mut nap = NAPS.0;
        let mut is_first = true;
        loop {
            if self.try_take(is_first)? {
                return Ok(true);
            }
            is_first = false;
            let left = until.saturating_duration_since(PreciseClock.now());
            if left.is_zero() {
                return Ok(false);
            }
            // Between a half and all of it, so that those who wait don't come all at once.
            let part = nap / 2 + Duration::from_nanos(random() % (nap.as_nanos() as u64 / 2));
            Signal::default().wait(Some(part.min(left)));
            nap = (nap * 3 / 2).min(NAPS.1);
        }
    }

    fn release(&self) -> Result<(), Error> {
        let Some((held, _)) = lock_plain(&self.held).take() else { return Ok(()) };
        let released = held.release();
        match &released {
            Ok(()) => self.core.keeper.forget(&held),
            Err(_) => self.core.keeper.give_up(&held, self.core.renews_after()),
        }
        released
    }

    fn locked(&self) -> Result<bool, Error> {
        let look = Ask::Get { key: &self.lock, has_value: false, vivify: None, touch: None };
        Ok(matches!(self.server().ask_one(look)?, Answer::Item(_)))
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.core.lease)
    }

    fn fence(&self) -> Option<Fence> {
        let held = lock_plain(&self.held);
        held.as_ref().map(|(held, _)| Fence::new(Fenced(Arc::clone(held))))
    }

    fn found(&self) -> Option<Option<Stored>> {
        lock_plain(&self.held).as_ref().map(|(_, found)| found.clone())
    }
}

/// Nobody waits here for a server.
impl Drop for Lock {
    fn drop(&mut self) {
        if let Some((held, _)) = lock_plain(&self.held).take() {
            self.core.keeper.give_up(&held, self.core.renews_after());
        }
    }
}
