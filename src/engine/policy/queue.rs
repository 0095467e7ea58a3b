//! A first-in-first-out queue of tokens whose stale ones can be dropped little by little, in place.
//!
//! ```text
//! out <- [ checked ] <- [ unchecked ] <- in
//! ```
//!
//! # Invariants
//! - **Q1, order.** Every token of `checked` came before every one of `unchecked`, and both are in order of arrival.
//!
//! # Cost
//! A push, a pop, a check: O(1). 8 bytes a token, up to 16 after a doubling.
#![forbid(unsafe_code)]

use super::Token;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Queue {
    checked: VecDeque<Token>,
    unchecked: VecDeque<Token>,
}

impl Queue {
    pub(super) fn push(&mut self, token: Token) {
        self.unchecked.push_back(token);
    }

    pub(super) fn pop(&mut self) -> Option<Token> {
        self.checked.pop_front().or_else(|| self.unchecked.pop_front())
    }

    pub(super) fn len(&self) -> usize {
        self.checked.len() + self.unchecked.len()
    }

    /// Looks at the token that was not looked at for longest, and drops it if it is not live.
    pub(super) fn check(&mut self, is_live: impl FnOnce(Token) -> bool) {
        if self.unchecked.is_empty() {
            std::mem::swap(&mut self.checked, &mut self.unchecked);
        }
        if let Some(token) = self.unchecked.pop_front()
            && is_live(token)
        {
            self.checked.push_back(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checking_drops_what_is_stale_and_keeps_the_order() {
        let mut queue = Queue::default();
        let mut next = 0;
        let mut left = VecDeque::new();
        for round in 0..100 {
            for _ in 0..round % 7 {
                queue.push(Token::new(next, 0));
                left.push_back(next);
                next += 1;
            }
            for _ in 0..round % 5 {
                queue.check(|token| {
                    let live = token.hash() % 3 != 0;
                    left.retain(|hash| live || *hash != token.hash());
                    live
                });
            }
            if round % 3 == 0 {
                assert_eq!(queue.pop().map(Token::hash), left.pop_front(), "Q1");
            }
            assert_eq!(queue.len(), left.len());
        }
        (0..2 * queue.len()).for_each(|_| queue.check(|token| token.hash() % 2 == 0));
        left.retain(|hash| hash % 2 == 0);
        assert_eq!(std::iter::from_fn(|| queue.pop()).map(Token::hash).collect::<VecDeque<_>>(), left, "Q1");
    }
}
