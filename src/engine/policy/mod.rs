//! Eviction: which entry goes when there is no room.
//!
//! A policy keeps *tokens* in queues and never owns a node: a token finds its entry through the index, or proves stale.
//! All of a shard's policy stands behind one mutex, which writers of new keys take and readers never: measured, it is
//! the fastest queue there is unless threads outnumber cores by far (`ARCHITECTURE.md`). No user code runs under it.
//! A reader leaves what the policy wants to know in the node ([`Uses`]).
//!
//! # Invariants
//! - **E1, no token is lost.** A candidate's token stays in its queue until the candidate is judged or settled: its entry
//!   was evicted, is queued again, or has gone.
//! - **E2, one token an entry.** A token is queued once for each ticket, and a ticket is given once for each stay of a
//!   key. So what is taken out of the index by others leaves at most one stale token behind.

#![forbid(unsafe_code)]

mod ghost;
mod queue;
mod reuse_interval;

pub(crate) use ghost::Lines;
pub(crate) use reuse_interval::ReuseInterval;

/// The low 48 bits of an entry's hash, and its ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Token(u64);

impl Token {
    #[inline]
    pub(crate) fn new(hash: u64, ticket: u16) -> Self {
        Self(hash << 16 | u64::from(ticket))
    }

    /// The hash, as far as the token knows it: enough for bucket, tag and shard.
    #[inline]
    pub(crate) fn hash(self) -> u64 {
        self.0 >> 16
    }

    #[inline]
    pub(crate) fn ticket(self) -> u16 {
        self.0 as u16
    }
}

/// What an entry tells of its uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// How often it was used since it was last judged, up to three.
    pub(crate) count: u8,
    /// The tick of the last use that was stamped, modulo 2^16.
    pub(crate) stamp: u16,
    /// Ticks between the last two that were; 0: there were not two.
    pub(crate) interval: u16,
}

impl Uses {
    /// A stamp that is less than this behind zero was left by a reader who came late: it is of now.
    const LATE: u16 = 0x1000;

    /// Ticks since a stamp.
    #[inline]
    pub(crate) fn since(stamp: u16, now: u16) -> u16 {
        let elapsed = now.wrapping_sub(stamp);
        if elapsed > u16::MAX - Self::LATE { 0 } else { elapsed }
    }

    /// A use is stamped at least two ticks, about 3 % of the room in new keys, after the last stamp. Uses that follow closer
    /// are one use.
    const LEAST: u16 = 2;

    /// Whether a use now is to be stamped.
    #[inline]
    pub(crate) fn is_due(stamp: u16, now: u16) -> bool {
        now.wrapping_sub(stamp).wrapping_sub(Self::LEAST) < u16::MAX - Self::LATE - Self::LEAST + 1
    }

    /// Whether a stamp is of this tick or the last. Not due then; otherwise `is_due` knows.
    #[inline]
    pub(crate) fn is_fresh(stamp: u16, now: u16) -> bool {
        now.wrapping_sub(stamp) < Self::LEAST
    }
}

/// What became of a candidate's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was taken out of the index, by this policy's word; it had that stamp.
    Evicted { stamp: u16 },
    /// It was taken out because it had expired: the policy learns nothing from that.
    Expired,
    /// It could not be touched just now: ask again later.
    Busy,
    /// Somebody makes a newer version of it, so it is of use: ask again much later, and for another one first.
    Taken,
    /// Nobody there: it was removed, or belonged to content that was cleared.
    Stale,
}

/// What a policy says of a candidate that is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Evict,
    /// It stays, with this count of uses from now on.
    Keep {
        reuse: u8,
    },
    /// It stays where it is: the policy only wanted to know.
    Wait,
}

/// The hooks between a shard and its eviction policy.
///
/// `arrive -> (candidate -> (judge | settle))* -> admit` for a new key; the middle alone where others need room. One
/// candidate at a time.
pub(crate) trait Policy: Send {
    /// A candidate that is being looked at.
    type Candidate: Copy;

    /// A new key was published. `room` is the number of entries that the shard has room for now; `None`: their weights are
    /// limited, not their number. Whether the clock has moved on.
    fn arrive(&mut self, token: Token, room: Option<usize>) -> bool;

    /// Queues what arrived. Returns the count of uses it starts with.
    fn admit(&mut self) -> u8;

    /// The policy's clock: what uses are stamped with.
    fn now(&self) -> u16;

    /// The next entry to judge, or none if no token is queued. `room` as in `arrive`, if nobody has arrived.
    fn candidate(&mut self, room: impl FnOnce() -> Option<usize>) -> Option<(Self::Candidate, Token)>;

    /// Judges a candidate whose entry is alive. A kept one is queued again.
    fn judge(&mut self, candidate: Self::Candidate, uses: Uses) -> Verdict;

    /// Learns what became of a candidate that was not judged, or was to be evicted.
    fn settle(&mut self, candidate: Self::Candidate, fate: Fate);

    /// The tokens that will probably be asked for first and second, so that what they lead to can be prefetched.
    fn ahead(&self) -> [Option<Token>; 2];

    /// Where `arrive` will read.
    fn lines(&self) -> Lines;

    /// How many tokens are queued.
    fn len(&self) -> usize;

    /// Looks at `n` tokens that it has not looked at for longest, and drops those for which `is_live` is false. The order
    /// of the others stays.
    fn check(&mut self, n: usize, is_live: impl FnMut(Token) -> bool);

    /// Forgets everything: the shard was cleared.
    fn clear(&mut self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_come_round() {
        for start in [0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff] {
            let at = |ticks: u16| u16::wrapping_add(start, ticks);
            assert!(!Uses::is_due(start, at(0)) && !Uses::is_due(start, at(1)));
            for ticks in [2, 3, 100, 0x8000, 0xefff] {
                assert!(Uses::is_due(start, at(ticks)), "{ticks} after {start}");
                assert_eq!(Uses::since(start, at(ticks)), ticks);
            }
            // A reader that came late stamped what is now the future.
            for ticks in [1, 2, 0x0fff] {
                assert!(!Uses::is_due(at(ticks), start), "M13: {ticks} before {start}");
                assert_eq!(Uses::since(at(ticks), start), 0, "M13");
            }
        }
    }
}
