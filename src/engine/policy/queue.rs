//! A first-in-first-out queue of tokens, in small blocks, whose stale ones can be dropped little by little, in place.
//!
//! ```text
//! out <- [ checked ] <- [ unchecked ] <- in
//! ```
//!
//! # Invariants
//! - **Q1, order.** Every token of `checked` came before every one of `unchecked`, and both are in order of arrival.
//!
//! # Cost
//! A push, a pop, a check: O(1). About 8.4 bytes a token, whatever the length: a ring that doubles would take up to 16,
//! and each of the two queues of a policy may come to hold nearly all tokens.
#![forbid(unsafe_code)]

use super::Token;
use std::collections::VecDeque;

/// Tokens in a block.
const BLOCK: usize = 32;

type Block = Box<[Token; BLOCK]>;

#[derive(Default)]
struct Lane {
    blocks: VecDeque<Block>,
    /// Where in the first block the first token is.
    head: usize,
    len: usize,
    /// A block that came free, so that a queue of steady length allocates nothing.
    spare: Option<Block>,
}

impl Lane {
    #[inline]
    fn push(&mut self, token: Token) {
        let at = self.head + self.len;
        if at == self.blocks.len() * BLOCK {
            let block = self.spare.take().unwrap_or_else(|| Box::new([Token(0); BLOCK]));
            self.blocks.push_back(block);
        }
        self.blocks[at / BLOCK][at % BLOCK] = token;
        self.len += 1;
    }

    #[inline]
    fn pop(&mut self) -> Option<Token> {
        let token = self.get(0)?;
        self.head += 1;
        self.len -= 1;
        if self.head == BLOCK {
            self.spare = self.blocks.pop_front();
            self.head = 0;
        }
        Some(token)
    }

    #[inline]
    fn get(&self, i: usize) -> Option<Token> {
        if i >= self.len {
            return None;
        }
        let at = self.head + i;
        self.blocks.get(at / BLOCK).map(|block| block[at % BLOCK])
    }
}

#[derive(Default)]
pub(super) struct Queue {
    checked: Lane,
    unchecked: Lane,
}

impl Queue {
    #[inline]
    pub(super) fn push(&mut self, token: Token) {
        self.unchecked.push(token);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Token> {
        self.checked.pop().or_else(|| self.unchecked.pop())
    }

    /// The token that is popped after `i` others.
    #[inline]
    pub(super) fn get(&self, i: usize) -> Option<Token> {
        if self.checked.len == 0 {
            return self.unchecked.get(i);
        }
        self.checked.get(i).or_else(|| self.unchecked.get(i - self.checked.len))
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.checked.len + self.unchecked.len
    }

    /// Looks at the token that was not looked at for longest, and drops it if it is not live.
    pub(super) fn check(&mut self, is_live: impl FnOnce(Token) -> bool) {
        if self.unchecked.len == 0 {
            std::mem::swap(&mut self.checked, &mut self.unchecked);
        }
        if let Some(token) = self.unchecked.pop()
            && is_live(token)
        {
            self.checked.push(token);
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
            for (i, hash) in left.iter().enumerate() {
                assert_eq!(queue.get(i).map(Token::hash), Some(*hash), "Q1");
            }
            assert_eq!((queue.get(left.len()), queue.len()), (None, left.len()));
            for _ in 0..popped {
                assert_eq!(queue.pop().map(Token::hash), left.pop_front(), "Q1");
            }
        }
        (0..100).for_each(|i| queue.push(Token::new(i, 0)));
        (0..2 * queue.len()).for_each(|_| queue.check(|token| token.hash() % 2 == 0));
        let rest: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(Token::hash).collect();
        assert!(rest.iter().all(|hash| hash % 2 == 0) && rest.ends_with(&[96, 98]), "Q1: {rest:?}");
    }

    #[test]
    fn a_queue_of_steady_length_keeps_its_blocks() {
        let mut queue = Queue::default();
        (0..1000).for_each(|i| queue.push(Token::new(i, 0)));
        let blocks =
            |queue: &Queue| queue.unchecked.blocks.len() + usize::from(queue.unchecked.spare.is_some());
        let before = blocks(&queue);
        for i in 1000..5000 {
            queue.push(Token::new(i, 0));
            assert_eq!(queue.pop(), Some(Token::new(i - 1000, 0)));
            assert!(blocks(&queue) <= before + 2, "{} blocks for 1000 tokens", blocks(&queue));
        }
    }
}
