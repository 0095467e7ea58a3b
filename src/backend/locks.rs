//! [`LockInfo`]: what a store tells of its locks.
#![forbid(unsafe_code)]

use std::time::Duration;

/// A lock of a store's own that somebody holds: of [`Backend::locks`](super::Backend::locks).
///
/// ```
/// use dogpile::backend::LockInfo;
/// use std::time::Duration;
///
/// let mut info = LockInfo::new("key");
/// info.left = Some(Duration::from_secs(30));
/// assert_eq!((info.key.as_str(), info.holder), ("key", None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockInfo {
    /// The key that is locked, as the store has it.
    pub key: String,
    /// Who holds it, if the store tells: a process, the beginning of a token. For people; nothing that would unlock it.
    pub holder: Option<String>,
    /// Since when it is held, if the store tells.
    pub held_for: Option<Duration>,
    /// When it ends by itself, if its holder does not renew it. `None`: it does not, or the store does not tell.
    pub left: Option<Duration>,
}

impl LockInfo {
    /// A lock of which only the key is known.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), holder: None, held_for: None, left: None }
    }
}
