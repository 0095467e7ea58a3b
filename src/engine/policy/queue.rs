//! A first-in-first-out queue of tokens, in small blocks, whose stale ones can be dropped little by little, in place.
//!
//! ```text
//! out <- [ checked ] <- [ unchecked ] <- in          a lane: out <- [ first ] <- [ middle.. ] <- [ last ] <- in
//! ```
//! `checked` is empty but while stale tokens are looked for, and until those that were looked at have left.
//!
//! # Invariants
//! - **Q1, order.** Every token of `checked` came before every one of `unchecked`, and both are in order of arrival.
//!
//! # Cost
//! A push, a pop, a check: O(1), and but for each 32nd one comparison and one access to a block. About 8.5 bytes a token,
//! whatever the length: a ring that doubles would take up to 16, and each of the two queues of a policy may come to hold
//! nearly all tokens.
#![forbid(unsafe_code)]

use super::Token;
use std::collections::VecDeque;

/// Tokens in a block: a power of two.
const BLOCK: usize = 32;

type Block = Box<[Token; BLOCK]>;

#[derive(Default)]
struct Lane {
    /// Where tokens leave: a ring, from `head` to `end`, both modulo its length. The only block while it suffices.
    first: Option<Block>,
    head: usize,
    end: usize,
    /// Where they come in, at `tail`, if the first does not suffice.
    last: Option<Block>,
    tail: usize,
    /// Full ones between the two.
    middle: VecDeque<Block>,
    /// A block that came free, so that a queue of steady length allocates nothing.
    spare: Option<Block>,
}

impl Lane {
    #[inline]
    fn push(&mut self, token: Token) {
        match (&mut self.last, &mut self.first) {
            (Some(last), _) if self.tail < BLOCK => {
                last[self.tail] = token;
                self.tail += 1;
            }
            (None, Some(first)) if self.end.wrapping_sub(self.head) < BLOCK => {
                first[self.end % BLOCK] = token;
                self.end = self.end.wrapping_add(1);
            }
            _ => self.push_to_another(token),
        }
    }

    #[cold]
    #[inline(never)]
    fn push_to_another(&mut self, token: Token) {
        let mut block = self.spare.take().unwrap_or_else(|| Box::new([Token(0); BLOCK]));
        block[0] = token;
        if self.first.is_none() {
            self.first = Some(block);
            (self.head, self.end) = (0, 1);
        } else {
            self.middle.extend(self.last.replace(block));
            self.tail = 1;
        }
    }

    /// The first is empty: another takes its place. False: there is none.
    #[cold]
    #[inline(never)]
    fn open_another(&mut self) -> bool {
        if self.last.is_none() {
            return false;
        }
        let (next, end) = match self.middle.pop_front() {
            Some(block) => (Some(block), BLOCK),
            None => (self.last.take(), self.tail),
        };
        self.spare = std::mem::replace(&mut self.first, next).or(self.spare.take());
        (self.head, self.end) = (0, end);
        true
    }

    #[inline]
    fn peek(&mut self) -> Option<Token> {
        if self.head == self.end && !self.open_another() {
            return None;
        }
        self.first.as_ref().map(|first| first[self.head % BLOCK])
    }

    fn pop(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.drop_first();
        Some(token)
    }

    /// Takes out what `peek` has just shown.
    #[inline]
    fn drop_first(&mut self) {
        self.head = self.head.wrapping_add(1);
    }

    /// Those that leave first and second, as far as they stand in one block.
    #[inline]
    fn ahead(&self) -> [Option<Token>; 2] {
        let Some(first) = &self.first else { return [None; 2] };
        let len = self.end.wrapping_sub(self.head);
        let get = |i| (i < len).then(|| first[self.head.wrapping_add(i) % BLOCK]);
        [get(0), get(1)]
    }
}

#[derive(Default)]
pub(super) struct Queue {
    len: usize,
    /// How many of them `checked` holds.
    checked_len: usize,
    unchecked: Lane,
    checked: Lane,
}

impl Queue {
    #[inline]
    pub(super) fn push(&mut self, token: Token) {
        self.unchecked.push(token);
        self.len += 1;
    }

    /// The token that is popped next.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<Token> {
        let lane = if self.checked_len > 0 { &mut self.checked } else { &mut self.unchecked };
        lane.peek()
    }

    /// Takes out the token that `peek` has just shown.
    #[inline]
    pub(super) fn drop_first(&mut self) {
        debug_assert!(self.peek().is_some(), "there is one to be taken out");
        if self.checked_len > 0 {
            self.checked_len -= 1;
            self.checked.drop_first();
        } else {
            self.unchecked.drop_first();
        }
        self.len -= 1;
    }

    #[cfg(test)]
    fn pop(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.drop_first();
        Some(token)
    }

    /// The tokens that are popped next, or some of them: to be prefetched.
    #[inline]
    pub(super) fn ahead(&self) -> [Option<Token>; 2] {
        if self.checked_len > 0 { self.checked.ahead() } else { self.unchecked.ahead() }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Looks at the token that was not looked at for longest, and drops it if it is not live.
    pub(super) fn check(&mut self, is_live: impl FnOnce(Token) -> bool) {
        if self.checked_len == self.len {
            std::mem::swap(&mut self.checked, &mut self.unchecked);
            self.checked_len = 0;
        }
        let Some(token) = self.unchecked.pop() else { return };
        if is_live(token) {
            self.checked.push(token);
            self.checked_len += 1;
        } else {
            self.len -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain queue, with lengths over several blocks and down to nothing.
    #[test]
    fn checking_drops_what_is_stale_and_keeps_the_order() {
        let mut queue = Queue::default();
        let mut next = 0;
        let mut left = VecDeque::new();
        for round in 0..600 {
            // In waves, each ending with an empty queue.
            let (pushed, popped) = if round % 100 < 50 { (round % 11, round % 3) } else { (round % 3, 11) };
            for _ in 0..pushed {
                queue.push(Token::new(next, 0));
                left.push_back(next);
                next += 1;
            }
            for _ in 0..round % 5 {
                queue.check(|token| {
                    let live = token.hash() % 7 != 0;
                    left.retain(|hash| live || *hash != token.hash());
                    live
                });
            }
            assert_eq!(
                (queue.peek().map(Token::hash), queue.len()),
                (left.front().copied(), left.len()),
                "Q1"
            );
            let ahead = queue.ahead().into_iter().flatten().map(Token::hash);
            assert!(ahead.eq(left.iter().copied().take(queue.ahead().iter().flatten().count())), "Q1");
            for _ in 0..popped {
                assert_eq!(queue.pop().map(Token::hash), left.pop_front(), "Q1");
            }
        }
        (0..100).for_each(|i| queue.push(Token::new(i, 0)));
        (0..2 * queue.len()).for_each(|_| queue.check(|token| token.hash() % 2 == 0));
        let rest: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(Token::hash).collect();
        assert!(rest.iter().all(|hash| hash % 2 == 0) && rest.ends_with(&[96, 98]), "Q1: {rest:?}");
        assert_eq!((queue.len(), queue.peek(), queue.ahead()), (0, None, [None; 2]));
    }

    #[test]
    fn a_queue_of_steady_length_keeps_its_blocks() {
        let mut queue = Queue::default();
        (0..1000).for_each(|i| queue.push(Token::new(i, 0)));
        let blocks = |queue: &Queue| {
            let lane = &queue.unchecked;
            let single = [&lane.first, &lane.last, &lane.spare];
            lane.middle.len() + single.iter().filter(|block| block.is_some()).count()
        };
        let before = blocks(&queue);
        for i in 1000..5000 {
            queue.push(Token::new(i, 0));
            assert_eq!(queue.pop(), Some(Token::new(i - 1000, 0)));
            assert!(blocks(&queue) <= before + 2, "{} blocks for 1000 tokens", blocks(&queue));
        }
    }
}
