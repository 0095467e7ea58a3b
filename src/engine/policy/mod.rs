//! Eviction: which entry goes when there is no room.
//!
//! A policy keeps *tokens* in queues and never owns a node: a token finds its entry through the index, or proves stale.
//! All of a shard's policy stands behind one mutex, which writers of new keys take and readers never: measured, it is
//! the fastest queue there is unless threads outnumber cores by far (`ARCHITECTURE.md`). No user code runs under it.
//!
//! # Invariants
//! - **E1, no token is lost.** A token that `candidate` hands out comes back by `settle`: its entry was evicted, is
//!   queued again, or has gone.
//! - **E2, one token an entry.** A token is queued once for each ticket, and a ticket is given once for each stay of a
//!   key. So what is taken out of the index by others leaves at most one stale token behind.

#![forbid(unsafe_code)]

mod ghost;
mod queue;
mod s3_fifo;

pub(crate) use s3_fifo::S3Fifo;

/// The low 48 bits of an entry's hash, and its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

impl Token {
    pub(crate) fn new(hash: u64, ticket: u16) -> Self {
        Self(hash << 16 | u64::from(ticket))
    }

    /// The hash, as far as the token knows it: enough for bucket, tag and shard.
    pub(crate) fn hash(self) -> u64 {
        self.0 >> 16
    }

    pub(crate) fn ticket(self) -> u16 {
        self.0 as u16
    }
}

/// What became of a candidate's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was taken out of the index, by this policy's word.
    Evicted,
    /// It was taken out because it had expired: the policy learns nothing from that.
    Expired,
    /// It could not be touched just now: ask again later.
    Busy,
    /// Somebody makes a newer version of it, so it is of use: ask again much later.
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
}

/// The hooks between a shard and its eviction policy.
pub(crate) trait Policy: Send {
    /// A candidate that was handed out, to be given back.
    type Candidate: Copy;

    /// A new key was published. `room` is the number of entries that the shard has room for now.
    fn admit(&mut self, token: Token, room: usize);

    /// The next entry to judge, or none if no token is queued.
    fn candidate(&mut self, room: usize) -> Option<(Self::Candidate, Token)>;

    /// Judges a candidate whose entry is alive and was used `reuse` times since it was last judged. A kept one is
    /// queued again.
    fn judge(&mut self, candidate: Self::Candidate, reuse: u8) -> Verdict;

    /// Learns what became of a candidate that was not kept.
    fn settle(&mut self, candidate: Self::Candidate, fate: Fate);

    /// How many tokens are queued.
    fn len(&self) -> usize;

    /// Looks at `n` tokens that it has not looked at for longest, and drops those for which `is_live` is false. The order
    /// of the others stays.
    fn check(&mut self, n: usize, is_live: impl FnMut(Token) -> bool);

    /// Forgets everything: the shard was cleared.
    fn clear(&mut self);
}
