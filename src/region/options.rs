//! What single calls may want.
#![forbid(unsafe_code)]

use std::time::Duration;

/// How [`Region::set_with`](crate::Region::set_with) stores a value.
///
/// ```
/// use dogpile::region::SetOptions;
/// use std::time::Duration;
///
/// let region = dogpile::Region::in_memory();
/// let once = SetOptions::new().ttl(Duration::from_secs(60)).if_absent();
/// assert!(region.set_with("key", 1, once.clone())?);
/// assert!(!region.set_with("key", 2, once)?);
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct SetOptions {
    pub(crate) ttl: Option<Duration>,
    pub(crate) if_absent: bool,
    pub(crate) tags: Vec<String>,
}

impl SetOptions {
    /// For as long as the region's policy says, in the place of what is there, without tags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its own time to live: after that it is gone, unless the policy says for how long stale values are served. Zero: it is
    /// over at once. `Duration::MAX`: it has none.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Only if the key has no fresh value. What is stale or invalidated is no obstacle.
    pub fn if_absent(mut self) -> Self {
        self.if_absent = true;
        self
    }

    /// Tags, for [`Scope::Tag`](super::Scope::Tag).
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }
}

/// How [`Region::get_with`](crate::Region::get_with) reads.
///
/// ```
/// use dogpile::region::GetOptions;
/// use std::time::Duration;
///
/// let region = dogpile::Region::in_memory();
/// region.set("key", 1)?;
/// assert_eq!(region.get_with::<i32>("key", GetOptions::new().fresh(Duration::ZERO))?, None);
/// let any = GetOptions::new().fresh(Duration::ZERO).ignore_expiration();
/// assert_eq!(region.get_with::<i32>("key", any)?.as_deref(), Some(&1));
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct GetOptions {
    pub(crate) fresh: Option<Duration>,
    pub(crate) ignore_expiration: bool,
}

impl GetOptions {
    /// As the region's policy says.
    pub fn new() -> Self {
        Self::default()
    }

    /// For this call values are fresh for so long after they were made. `Duration::MAX`: for ever.
    pub fn fresh(mut self, fresh: Duration) -> Self {
        self.fresh = Some(fresh);
        self
    }

    /// Returns what is there, however old, and if it was invalidated.
    pub fn ignore_expiration(mut self) -> Self {
        self.ignore_expiration = true;
        self
    }
}
