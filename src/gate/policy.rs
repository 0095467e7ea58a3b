//! [`Policy`]: how long values are good, and who waits for what.
#![forbid(unsafe_code)]

use super::early::{Early, random};
use super::runner::{OwnThread, Runner};
use super::timer::{OwnTimer, Timer};
use crate::error::PolicyError;
use crate::sync::Arc;
use std::any::Any;
use std::fmt;
use std::time::Duration;

/// What a caller accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// A stale value, as long as the policy's `stale` says, when another makes the newer one.
    #[default]
    AllowStale,
    /// Fresh values only: waits for whoever makes one.
    WaitFresh,
    /// What is there, fresh or stale. Waits for nobody, and makes nothing: `try_get_or_create` returns
    /// [`NotCached`](crate::CreateError::NotCached). A verb that can't fail runs its creator for itself, and stores nothing.
    CacheOnly,
}

type ShouldCache<V> = Arc<dyn Fn(&V) -> bool + Send + Sync>;

/// The policy of a region, whose values are of any type.
///
/// Its `stale` is by default for as long as the store keeps a value, as dogpile.cache has it.
///
/// ```
/// use dogpile::RegionPolicy;
/// use std::time::Duration;
///
/// let policy = RegionPolicy::builder()
///     .fresh(Duration::from_secs(60))
///     .should_cache_of(|names: &Vec<String>| !names.is_empty())
///     .build();
/// assert!(policy.is_ok());
/// ```
pub type RegionPolicy = Policy<dyn Any + Send + Sync>;

/// How long values are good, who makes new ones, and who waits for what. Checked once, by
/// [`build`](PolicyBuilder::build); cheap to clone.
///
/// A cache has one ([`CacheBuilder::policy`](crate::CacheBuilder::policy)), and any call may use another
/// ([`Cache::with`](crate::Cache::with)).
///
/// ```
/// use dogpile::{Cache, Policy};
/// use dogpile::time::ManualClock;
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let policy = Policy::builder().fresh(Duration::from_secs(60)).stale(Duration::from_secs(600)).build()?;
/// let cache = Cache::builder().policy(policy).clock(clock.clone()).build()?;
/// cache.get_or_create(&"key", || 1);
/// clock.advance(Duration::from_secs(61));
/// // Stale by now. This caller is the one to make it anew; another one meanwhile would get 1 at once.
/// let two = cache.get_or_create(&"key", || {
///     assert_eq!(*cache.get_or_create(&"key", || unreachable!("somebody does it already")), 1);
///     2
/// });
/// assert_eq!(*two, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Policy<V: ?Sized> {
    pub(crate) fresh: Option<Duration>,
    /// `None`: what is usual where the policy is used, nothing in a cache, as long as it is stored in a region.
    pub(crate) stale: Option<Duration>,
    pub(crate) stale_if_error: Duration,
    pub(crate) hold_back: Duration,
    pub(crate) wait: Option<Duration>,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) error_ttl: Option<Duration>,
    pub(crate) jitter: f64,
    pub(crate) early: Option<Early>,
    pub(crate) freshness: Freshness,
    pub(crate) should_cache: Option<ShouldCache<V>>,
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) timer: Arc<dyn Timer>,
}

impl<V: ?Sized> Policy<V> {
    /// Settings, one by one.
    pub fn builder() -> PolicyBuilder<V> {
        // Values of any type are a region's: a reference to one tells its type, too.
        let serves = size_of::<&V>() > size_of::<usize>();
        PolicyBuilder { policy: Self::default(), hold_back: None, serves }
    }
}

impl PolicyBuilder<dyn Any + Send + Sync> {
    /// Whether a value of type `T` that was made is to be stored. Values of other types are. The last such setting counts.
    pub fn should_cache_of<T: 'static>(
        self,
        should_cache: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.should_cache(move |value| value.downcast_ref().is_none_or(&should_cache))
    }
}

impl<V: ?Sized> Policy<V> {
    /// These settings, to change some of them.
    ///
    /// ```
    /// use dogpile::{Freshness, Policy};
    /// use std::time::Duration;
    ///
    /// let usual = Policy::<u8>::builder().fresh(Duration::from_secs(60)).build()?;
    /// let strict = usual.to_builder().freshness(Freshness::WaitFresh).build()?;
    /// assert!(format!("{strict:?}").starts_with("Policy { fresh: Some(60s)"));
    /// # Ok::<(), dogpile::PolicyError>(())
    /// ```
    pub fn to_builder(&self) -> PolicyBuilder<V> {
        let hold_back = (!self.stale_if_error.is_zero()).then_some(self.hold_back);
        let serves = size_of::<&V>() > size_of::<usize>();
        PolicyBuilder { policy: self.clone(), hold_back, serves }
    }

    /// The part of the next value's time to live to cut off.
    pub(crate) fn cut(&self) -> f64 {
        if self.jitter > 0.0 { self.jitter * random() } else { 0.0 }
    }

    /// How long past its freshness a value may be of any use.
    pub(crate) fn keep(&self) -> Duration {
        self.stale().max(self.stale_if_error)
    }

    /// How long past its freshness a value is served, in a cache.
    pub(crate) fn stale(&self) -> Duration {
        self.stale.unwrap_or_default()
    }

    /// Whether a value past its time may be returned at all.
    pub(crate) fn serves_stale(&self) -> bool {
        self.keep() > Duration::ZERO
    }

    pub(crate) fn should_cache(&self, value: &V) -> bool {
        self.should_cache.as_ref().is_none_or(|should_cache| should_cache(value))
    }
}

/// How long nobody tries again after a failure, where the policy does not say.
const HOLD_BACK: Duration = Duration::from_secs(1);

impl<V: ?Sized> Default for Policy<V> {
    /// Fresh for as long as the cache says, never stale, no limit to waiting.
    fn default() -> Self {
        Self {
            fresh: None,
            stale: None,
            stale_if_error: Duration::ZERO,
            hold_back: HOLD_BACK,
            wait: None,
            soft_timeout: None,
            error_ttl: None,
            jitter: 0.0,
            early: None,
            freshness: Freshness::AllowStale,
            should_cache: None,
            runner: Arc::new(OwnThread),
            timer: Arc::new(OwnTimer),
        }
    }
}

impl<V: ?Sized> Clone for Policy<V> {
    fn clone(&self) -> Self {
        Self {
            should_cache: self.should_cache.clone(),
            runner: Arc::clone(&self.runner),
            timer: Arc::clone(&self.timer),
            ..*self
        }
    }
}

impl<V: ?Sized> fmt::Debug for Policy<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("fresh", &self.fresh)
            .field("stale", &self.stale)
            .field("stale_if_error", &self.stale_if_error)
            .field("hold_back", &self.hold_back)
            .field("wait", &self.wait)
            .field("soft_timeout", &self.soft_timeout)
            .field("error_ttl", &self.error_ttl)
            .field("jitter", &self.jitter)
            .field("early", &self.early)
            .field("freshness", &self.freshness)
            .finish_non_exhaustive()
    }
}

/// The settings of a [`Policy`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct PolicyBuilder<V: ?Sized> {
    hold_back: Option<Duration>,
    /// Whether stale values are served if nothing is said.
    serves: bool,
    policy: Policy<V>,
}

impl<V: ?Sized> PolicyBuilder<V> {
    /// How long what is created under this policy is fresh, unless the builder's `expire_after` says it of the value. On a
    /// cache's own policy it is the same as the builder's `time_to_live`. Zero: stale at once. `Duration::MAX`: for ever.
    pub fn fresh(mut self, fresh: Duration) -> Self {
        self.policy.fresh = Some(fresh);
        self
    }

    /// How long after its time a value is still returned while a newer one is made. Default: zero.
    ///
    /// The cache keeps expired entries for as long as its own policy says; a longer time in the policy of a single call
    /// is of use only as far as they are still there.
    pub fn stale(mut self, stale: Duration) -> Self {
        self.policy.stale = Some(stale);
        self
    }

    /// How long after its time a value is returned in the place of a creator's error. The next try is held back then,
    /// see [`hold_back`](Self::hold_back). Default: zero, never.
    pub fn stale_if_error(mut self, stale_if_error: Duration) -> Self {
        self.policy.stale_if_error = stale_if_error;
        self
    }

    /// For how long after a failure that a stale value stood in for nobody tries again. Default: a second.
    pub fn hold_back(mut self, hold_back: Duration) -> Self {
        self.hold_back = Some(hold_back);
        self
    }

    /// How long a caller waits for another's creation at the most, by real time. After that `try_get_or_create` returns
    /// [`TimedOut`](crate::CreateError::TimedOut), and `get_or_create` makes a value of its own, which is not stored.
    /// Default: no limit.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.policy.wait = Some(wait);
        self
    }

    /// How long a caller for whom there is a stale value waits for the newer one that it has begun in the background, by
    /// real time. For creators that can be handed on: loaders and the `_detached` forms. Default: not at all.
    pub fn soft_timeout(mut self, soft_timeout: Duration) -> Self {
        self.policy.soft_timeout = Some(soft_timeout);
        self
    }

    /// How long a creator's error is remembered, and returned without trying again. Default: it is not.
    pub fn error_ttl(mut self, error_ttl: Duration) -> Self {
        self.policy.error_ttl = Some(error_ttl);
        self
    }

    /// The part of the time to live, at random between none and this, that entries end early: what was made together
    /// shall not end together. From 0 to below 1. Default: 0.
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.policy.jitter = jitter;
        self
    }

    /// Makes values anew ahead of their time, one caller at a time, while the others get what is there.
    pub fn early(mut self, early: Early) -> Self {
        self.policy.early = Some(early);
        self
    }

    /// What callers accept. Default: [`Freshness::AllowStale`].
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.policy.freshness = freshness;
        self
    }

    /// Whether a value that was made is to be stored. If not, the leader and all who waited for it get it all the same.
    pub fn should_cache(mut self, should_cache: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self {
        self.policy.should_cache = Some(Arc::new(should_cache));
        self
    }

    /// For `#[cached]`: another condition, beside the one that there is.
    #[doc(hidden)]
    pub fn should_cache_too(mut self, too: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self
    where
        V: 'static,
    {
        match self.policy.should_cache.take() {
            None => self.should_cache(too),
            Some(first) => self.should_cache(move |value| first(value) && too(value)),
        }
    }

    /// What runs creations in the background. Default: each on a thread of its own.
    pub fn runner(mut self, runner: impl Runner + 'static) -> Self {
        self.policy.runner = Arc::new(runner);
        self
    }

    /// What wakes tasks whose wait has a limit. Default: one thread for the process, started when first needed.
    pub fn timer(mut self, timer: impl Timer + 'static) -> Self {
        self.policy.timer = Arc::new(timer);
        self
    }

    /// The policy.
    ///
    /// # Errors
    /// [`PolicyError`] names the settings that contradict each other, or the one that is out of range.
    ///
    /// ```
    /// use dogpile::{Freshness, Policy};
    /// use std::time::Duration;
    ///
    /// let error = Policy::<u8>::builder()
    ///     .freshness(Freshness::CacheOnly)
    ///     .wait(Duration::from_secs(1))
    ///     .build()
    ///     .unwrap_err();
    /// assert!(error.to_string().starts_with("wait and freshness(CacheOnly) contradict each other"));
    /// ```
    pub fn build(self) -> Result<Policy<V>, PolicyError> {
        let mut policy = self.policy;
        let range = |setting, accepted| Err(PolicyError::OutOfRange { setting, accepted });
        if !(0.0..1.0).contains(&policy.jitter) {
            return range("jitter", "from 0 to below 1");
        }
        match policy.early {
            Some(Early::Fraction(part)) if !(part > 0.0 && part < 1.0) => {
                return range("early(Fraction)", "between 0 and 1");
            }
            Some(Early::XFetch { beta }) if !(beta > 0.0 && beta.is_finite()) => {
                return range("early(XFetch)", "a beta above 0; 1 is usual");
            }
            _ => {}
        }
        let only = policy.freshness == Freshness::CacheOnly;
        let wait_fresh = policy.freshness == Freshness::WaitFresh;
        let has_stale = policy.stale.map_or(self.serves, |stale| stale > Duration::ZERO);
        let contradictions = [
            (only && policy.wait.is_some(), "wait", "freshness(CacheOnly)", "nobody is waited for"),
            (only && policy.early.is_some(), "early", "freshness(CacheOnly)", "nothing is made"),
            (only && policy.error_ttl.is_some(), "error_ttl", "freshness(CacheOnly)", "nothing is made"),
            (
                only && policy.soft_timeout.is_some(),
                "soft_timeout",
                "freshness(CacheOnly)",
                "nobody is waited for",
            ),
            (
                wait_fresh && policy.stale.is_some_and(|stale| stale > Duration::ZERO),
                "stale",
                "freshness(WaitFresh)",
                "stale values are not returned",
            ),
            (
                wait_fresh && policy.soft_timeout.is_some(),
                "soft_timeout",
                "freshness(WaitFresh)",
                "stale values are not returned",
            ),
            (
                policy.soft_timeout.is_some() && !has_stale && policy.early.is_none(),
                "soft_timeout",
                "no stale",
                "there is nothing to return when it ends",
            ),
            (
                self.hold_back.is_some() && policy.stale_if_error.is_zero(),
                "hold_back",
                "no stale_if_error",
                "without a value in the error's place the next try is not held back; error_ttl remembers errors",
            ),
        ];
        for (is_so, setting, with, because) in contradictions {
            if is_so {
                return Err(PolicyError::Contradiction { setting, with, because });
            }
        }
        policy.hold_back = self.hold_back.unwrap_or(HOLD_BACK);
        Ok(policy)
    }
}
