//! Clocks, and instants that saturate. Nobody else reads a clock.
//!
//! Inside a process only monotonic time counts: a [`Clock`] yields [`Instant`]s, nanoseconds from an origin of its
//! own. A deadline that would lie past the end of time is the end of time; an age is never negative.
#![forbid(unsafe_code)]

use crate::sync::{Arc, AtomicU64, LazyLock, Ordering};
use std::fmt;
use std::time::Duration;

/// A point on one clock, in nanoseconds from that clock's origin. Saturates at both ends.
///
/// Instants of different clocks must not be compared: nothing ties their origins together.
///
/// ```
/// use dogpile::time::Instant;
/// use std::time::Duration;
///
/// let start = Instant::from_nanos(5);
/// assert_eq!(start.saturating_add(Duration::from_nanos(2)), Instant::from_nanos(7));
/// assert_eq!(start.saturating_add(Duration::MAX), Instant::FAR_FUTURE);
/// assert_eq!(start.saturating_duration_since(Instant::FAR_FUTURE), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The end of time: 584 years after the origin. A deadline here is never reached.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the clock's origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This instant plus `span`, or [`FAR_FUTURE`](Self::FAR_FUTURE) where that would lie beyond it.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// This instant minus `span`, or the clock's origin where that would lie before it.
    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }

    /// The time from `earlier` to this instant, zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::FAR_FUTURE { f.write_str("never") } else { Duration::from_nanos(self.0).fmt(f) }
    }
}

/// `span` in whole nanoseconds, `u64::MAX` where it is longer than 584 years.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A span in few bits: six for its magnitude, `fraction` for the digits behind the first. Rounded down; 0 only for less
/// than a nanosecond.
pub(crate) fn encode(span: Duration, fraction: u32) -> u16 {
    let nanos = nanos(span);
    let shift = (64 - nanos.leading_zeros()).saturating_sub(fraction + 1);
    if shift == 0 {
        return nanos as u16;
    }
    // The first digit goes without saying.
    ((shift + 1) << fraction) as u16 | (nanos >> shift) as u16 & ((1 << fraction) - 1)
}

/// What `encode` made of a span.
pub(crate) fn decode(code: u16, fraction: u32) -> Duration {
    let (magnitude, digits) = (u32::from(code) >> fraction, u64::from(code) & ((1 << fraction) - 1));
    if magnitude < 2 {
        return Duration::from_nanos(u64::from(code));
    }
    Duration::from_nanos((digits | 1 << fraction) << (magnitude - 1))
}

/// A source of monotonic time.
///
/// A cache reads [`now`](Self::now) when it meets an entry that has a deadline, and [`precise`](Self::precise) when it
/// computes one. `now` may lag behind `precise`, by less than [`grain`](Self::grain); deadlines are set one grain early
/// to make up for it, so that an entry may expire one grain early and never late.
///
/// A clock that panics or goes backwards cannot make a cache unsound; entries then live longer or shorter.
pub trait Clock: Send + Sync {
    /// The time now, at most one grain old. On the path of every read of an entry with a deadline.
    fn now(&self) -> Instant;

    /// The time now, exactly. On the path of writes that set a deadline.
    fn precise(&self) -> Instant {
        self.now()
    }

    /// How far `now` may lag behind `precise`.
    fn grain(&self) -> Duration {
        Duration::ZERO
    }

    /// The time of day, since 1970 in UTC: for what is written for other processes. May jump. Default: the system's.
    fn unix(&self) -> Duration {
        system_time()
    }
}

/// The system's time of day, zero before 1970.
fn system_time() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this module is the one that reads clocks")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Instant {
        (**self).now()
    }
    fn precise(&self) -> Instant {
        (**self).precise()
    }
    fn grain(&self) -> Duration {
        (**self).grain()
    }
    fn unix(&self) -> Duration {
        (**self).unix()
    }
}

/// The operating system's monotonic clock: about 20 to 50 ns a reading, no grain.
///
/// ```
/// use dogpile::time::{Clock, PreciseClock};
/// let (a, b) = (PreciseClock.now(), PreciseClock.now());
/// assert!(a <= b);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct PreciseClock;

impl Clock for PreciseClock {
    #[cfg(target_os = "linux")]
    fn now(&self) -> Instant {
        // The same time line as the coarse clock's, so that the two can be mixed.
        read(rustix::time::ClockId::Monotonic)
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> Instant {
        static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std_now);
        Instant::from_nanos(nanos(std_now().saturating_duration_since(*ORIGIN)))
    }
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "this module is the one that reads clocks")]
fn std_now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(target_os = "linux")]
fn read(clock: rustix::time::ClockId) -> Instant {
    let t = rustix::time::clock_gettime(clock);
    // The kernel's monotonic clocks start at 0 at boot and never yield negative times.
    Instant::from_nanos((t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64))
}

/// The default clock: the kernel's own tick, read without a system call in about 6 ns, with a grain of 1 to 4 ms.
///
/// On systems without such a clock, or with one coarser than 5 ms, it is the [`PreciseClock`].
///
/// The kernel's tick can be late, on a virtual machine that does not run for example: 6 ms were seen of 4. Entries then
/// expire late by the difference. Where that matters use the precise clock.
///
/// ```
/// use dogpile::time::{Clock, CoarseClock};
/// use std::time::Duration;
/// assert!(CoarseClock.grain() <= Duration::from_millis(5));
/// assert!(CoarseClock.now() <= CoarseClock.precise());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CoarseClock;

impl CoarseClock {
    /// Coarser than this the kernel's tick is not used.
    const LIMIT: Duration = Duration::from_millis(5);

    /// The kernel's resolution, or zero where the precise clock stands in.
    fn resolution() -> Duration {
        static RESOLUTION: LazyLock<Duration> = LazyLock::new(|| {
            #[cfg(target_os = "linux")]
            {
                let t = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
                let grain = Duration::new(t.tv_sec as u64, t.tv_nsec as u32);
                if grain <= CoarseClock::LIMIT {
                    return grain;
                }
            }
            Duration::ZERO
        });
        *RESOLUTION
    }
}

impl Clock for CoarseClock {
    fn now(&self) -> Instant {
        #[cfg(target_os = "linux")]
        if !Self::resolution().is_zero() {
            return read(rustix::time::ClockId::MonotonicCoarse);
        }
        PreciseClock.now()
    }

    fn precise(&self) -> Instant {
        PreciseClock.now()
    }

    fn grain(&self) -> Duration {
        Self::resolution()
    }
}

/// A clock that stands still until it is told to move: for tests. Clones share the time.
///
/// ```
/// use dogpile::Cache;
/// use dogpile::time::ManualClock;
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let cache = Cache::builder().time_to_live(Duration::from_secs(60)).clock(clock.clone()).build()?;
/// cache.insert("key", 1);
/// clock.advance(Duration::from_secs(59));
/// assert!(cache.contains_key("key"));
/// clock.advance(Duration::from_secs(1));
/// assert!(!cache.contains_key("key"), "at exactly its deadline an entry is expired");
/// # Ok::<(), dogpile::BuildError>(())
/// ```
#[derive(Clone, Default)]
pub struct ManualClock {
    nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands at its origin.
    #[must_use]
    pub fn new() -> Self {
        Self { nanos: Arc::new(AtomicU64::new(0)) }
    }

    /// Moves the clock forward, at most to the end of time.
    pub fn advance(&self, span: Duration) {
        // Relaxed: whoever must see the new time is told of it by the test's own means.
        let now = self.nanos.load(Ordering::Relaxed);
        self.nanos.store(now.saturating_add(nanos(span)), Ordering::Relaxed);
    }

    /// Puts the clock anywhere, backwards too.
    pub fn set(&self, now: Instant) {
        self.nanos.store(now.as_nanos(), Ordering::Relaxed);
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// Its origin is some moment of 2001.
    fn unix(&self) -> Duration {
        Duration::from_secs(1_000_000_000).saturating_add(Duration::from_nanos(self.now().as_nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_survives_its_code_to_the_digits_it_has() {
        for fraction in [8, 10] {
            let powers = (0..64).map(|i| 1_u64 << i);
            for nanos in powers.chain([0, 3, 511, 512, 513, 2047, 2048, 2049, 123_456_789, u64::MAX]) {
                let code = encode(Duration::from_nanos(nanos), fraction);
                assert!(u32::from(code) >> fraction < 64, "six bits of magnitude");
                let decoded = decode(code, fraction).as_nanos() as u64;
                assert!(decoded <= nanos && nanos - decoded <= nanos >> fraction, "{nanos} became {decoded}");
            }
            assert!(
                decode(encode(Duration::MAX, fraction), fraction) > Duration::from_secs(500 * 365 * 86400)
            );
        }
    }
}
