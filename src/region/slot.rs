//! Where a region's configuration stands: made once, replaced seldom, read with each call.
#![forbid(unsafe_code)]

use super::core::Core;
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, AtomicBool, OnceLock, Ordering};
use arc_swap::ArcSwapOption;
use std::borrow::Cow;
use std::ops::Deref;

pub(crate) struct Slot {
    name: Cow<'static, str>,
    first: OnceLock<Arc<Core>>,
    newer: ArcSwapOption<Core>,
    /// Whether `newer` is to be looked at.
    is_replaced: AtomicBool,
}

/// A configuration, for the length of a call.
pub(crate) enum Configured<'s> {
    First(&'s Arc<Core>),
    Newer(Arc<Core>),
}

impl Deref for Configured<'_> {
    type Target = Arc<Core>;
    #[inline]
    fn deref(&self) -> &Arc<Core> {
        match self {
            Self::First(core) => core,
            Self::Newer(core) => core,
        }
    }
}

impl Slot {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            first: OnceLock::new(),
            newer: ArcSwapOption::const_empty(),
            is_replaced: AtomicBool::new(false),
        }
    }

    pub(crate) fn of(core: Arc<Core>) -> Self {
        let name = core.name.clone().unwrap_or_default();
        Self {
            name,
            first: OnceLock::from(core),
            newer: ArcSwapOption::const_empty(),
            is_replaced: AtomicBool::new(false),
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        Some(&*self.name).filter(|name| !name.is_empty())
    }

    pub(crate) fn own_name(&self) -> Option<Cow<'static, str>> {
        self.name().is_some().then(|| self.name.clone())
    }

    /// # Errors
    /// [`ErrorKind::NotConfigured`].
    #[inline]
    pub(crate) fn core(&self) -> Result<Configured<'_>, Error> {
        match self.first.get() {
            // Pairs with the store in `put`: the newer one is there.
            Some(first) if !self.is_replaced.load(Ordering::Acquire) => Ok(Configured::First(first)),
            Some(_) => Ok(Configured::Newer(self.newer.load_full().expect("it was put in first"))),
            None => Err(self.not_configured()),
        }
    }

    #[cold]
    fn not_configured(&self) -> Error {
        let operation = match self.name() {
            Some(name) => format!("region `{name}`"),
            None => String::from("region"),
        };
        Error::new(ErrorKind::NotConfigured, operation)
            .detail("call configure, configure_from_config or from_url before its first use")
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.first.get().is_some()
    }

    /// # Errors
    /// [`ErrorKind::AlreadyConfigured`], unless it may replace.
    pub(crate) fn put(&self, core: Core, replaces: bool) -> Result<(), Error> {
        let core = Arc::new(core);
        let Err(core) = self.first.set(core) else { return Ok(()) };
        if !replaces {
            return Err(Error::new(ErrorKind::AlreadyConfigured, core.operation("configure"))
                .detail("give replace_existing_backend to replace its backend"));
        }
        self.newer.store(Some(core));
        self.is_replaced.store(true, Ordering::Release);
        Ok(())
    }
}
