//! The attribute macros of `dogpile`.
//!
//! Empty in this release: the room is laid out so that memoised functions can arrive without moving anything.
#![forbid(unsafe_code)]
