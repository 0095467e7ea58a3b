//! S3-FIFO: a small queue for newcomers, a main queue for what proved itself, a ghost for what came too early.
//!
//! A new key enters the small queue; if the ghost knows it, the main queue. When room is needed and the small queue
//! holds more than a tenth, its oldest is judged: used twice or more, it moves to the main queue, else it goes, and the
//! ghost remembers it. Otherwise the oldest of the main queue is judged: used, it goes round again with one use less,
//! else it goes. A hit costs a saturating count in the entry and touches no queue.
//!
//! # Cost
//! A token in a queue: 8 bytes (up to 16 after a doubling). An eviction: a judgement or more; each judgement that keeps
//! spends a use, so a run of them is at most three times the main queue.
//!
//! # Source
//! J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, *FIFO queues are all you need for cache eviction*, SOSP 2023,
//! algorithm 1. Settings as there: small 10 %, ghost 90 %, counts up to 3, two uses to move. Our departures: the ghost
//! holds fingerprints with ages (see `ghost`); queues hold tokens, some of them stale; a newcomer is queued after room
//! was made for it, so it can't be its own victim.

#![forbid(unsafe_code)]

use super::ghost::Ghost;
use super::queue::Queue;
use super::{Fate, Policy, Token, Verdict};

/// Uses that take an entry from the small to the main queue.
const USES_TO_MOVE: u8 = 2;

#[derive(Default)]
pub(crate) struct S3Fifo {
    small: Queue,
    main: Queue,
    ghost: Ghost,
    /// The room of the last admission, from which the ghost takes its length.
    room: usize,
}

/// A token on its way through judgement, and the queue it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    token: Token,
    from_small: bool,
}

impl S3Fifo {
    fn ghost_length(&self) -> usize {
        // Not nine tenths of the room times ten: the room may be the greatest there is.
        self.room / 10 * 9 + self.room % 10 * 9 / 10
    }
}

impl Policy for S3Fifo {
    type Candidate = Judged;

    fn admit(&mut self, token: Token, room: usize) {
        self.room = room;
        if self.ghost.take(token.hash()) {
            self.main.push(token);
        } else {
            self.small.push(token);
        }
    }

    fn candidate(&mut self, room: usize) -> Option<(Judged, Token)> {
        self.room = room;
        let from_small = self.main.len() == 0 || self.small.len() >= (room / 10).max(1);
        let token = if from_small { self.small.pop() } else { self.main.pop() };
        // A small queue below its share and without tokens leaves the main one, and the other way round.
        token.map(|token| (Judged { token, from_small }, token))
    }

    fn judge(&mut self, candidate: Judged, reuse: u8) -> Verdict {
        let Judged { token, from_small } = candidate;
        match (from_small, reuse) {
            (true, uses) if uses >= USES_TO_MOVE => {
                self.main.push(token);
                Verdict::Keep { reuse: 0 }
            }
            (false, uses) if uses > 0 => {
                self.main.push(token);
                Verdict::Keep { reuse: uses - 1 }
            }
            _ => Verdict::Evict,
        }
    }

    fn settle(&mut self, candidate: Judged, fate: Fate) {
        let Judged { token, from_small } = candidate;
        match fate {
            Fate::Evicted if from_small => {
                let length = self.ghost_length();
                self.ghost.add(token.hash(), length);
            }
            Fate::Busy if from_small => self.small.push(token),
            // Not the small one: there it may be alone, and would be the next again.
            Fate::Busy | Fate::Taken => self.main.push(token),
            Fate::Evicted | Fate::Expired | Fate::Stale => {}
        }
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    fn check(&mut self, n: usize, mut is_live: impl FnMut(Token) -> bool) {
        // In proportion to their lengths, so that both come round together.
        let of_small = (n * self.small.len()).div_ceil(self.len().max(1));
        (0..of_small).for_each(|_| self.small.check(&mut is_live));
        (of_small..n).for_each(|_| self.main.check(&mut is_live));
    }

    fn clear(&mut self) {
        self.small = Queue::default();
        self.main = Queue::default();
        self.ghost.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(i: u64) -> Token {
        Token::new(i, 0)
    }

    /// Evicts as a shard would, with the counts that `uses` gives.
    fn evict(policy: &mut S3Fifo, room: usize, uses: &mut dyn FnMut(Token) -> u8) -> Option<Token> {
        while let Some((candidate, token)) = policy.candidate(room) {
            if policy.judge(candidate, uses(token)) == Verdict::Evict {
                policy.settle(candidate, Fate::Evicted);
                return Some(token);
            }
        }
        None
    }

    #[test]
    fn one_hit_wonders_leave_and_used_ones_stay() {
        let mut policy = S3Fifo::default();
        for i in 0..10 {
            policy.admit(token(i), 10);
        }
        let mut uses = |t: Token| if t.hash() == 0 { 2 } else { 0 };
        assert_eq!(evict(&mut policy, 10, &mut uses), Some(token(1)), "0 was used twice and moved to main");
        assert_eq!(policy.main.pop(), Some(token(0)));
    }

    #[test]
    fn a_key_that_comes_back_soon_enters_main() {
        let mut policy = S3Fifo::default();
        (0..10).for_each(|i| policy.admit(token(i), 10));
        let gone = evict(&mut policy, 10, &mut |_| 0).expect("ten tokens are queued");
        policy.admit(gone, 10);
        assert_eq!(policy.main.pop(), Some(gone));
    }

    #[test]
    fn every_token_comes_back_or_goes_for_a_reason() {
        let mut policy = S3Fifo::default();
        (0..4).for_each(|i| policy.admit(token(i), 4));
        let (candidate, _) = policy.candidate(4).expect("four tokens");
        policy.settle(candidate, Fate::Busy);
        assert_eq!(policy.len(), 4, "E1: a busy one is queued again");
        let (candidate, _) = policy.candidate(4).expect("four tokens");
        policy.settle(candidate, Fate::Stale);
        assert_eq!(policy.len(), 3);
        policy.check(3, |t| t.hash() % 2 == 0);
        assert!(policy.len() < 3);
    }

    #[test]
    fn room_for_none_or_one_works() {
        for room in [0, 1] {
            let mut policy = S3Fifo::default();
            policy.admit(token(1), room);
            policy.admit(token(2), room);
            let mut uses = [3_u8, 3];
            let mut used = |t: Token| std::mem::take(&mut uses[t.hash() as usize - 1]);
            assert!(evict(&mut policy, room, &mut used).is_some(), "uses run out, so somebody goes");
            assert_eq!(policy.len(), 1);
        }
    }
}
