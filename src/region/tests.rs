//! What only the inside can tell.

use super::*;
use crate::time::ManualClock;
use std::future::Future;

fn core(region: &Region) -> Arc<super::core::Core> {
    Arc::clone(&*region.slot.core().unwrap())
}

#[test]
fn k1_keys_have_a_state_only_while_somebody_needs_it() {
    let region = Region::in_memory();
    for i in 0..1_000 {
        let key = i.to_string();
        let during = region.get_or_create(&key, || core(&region).registry.len() as u64).unwrap();
        assert_eq!(*during, 1, "the one that is being made");
    }
    assert_eq!(core(&region).registry.len(), 0);
    region.try_get_or_create("bad", || Err::<u32, _>("no")).unwrap_err();
    assert_eq!(core(&region).registry.len(), 0, "a failure that is not remembered");
}

#[test]
fn k1_remembered_failures_are_forgotten_in_time() {
    let clock = ManualClock::new();
    let policy = RegionPolicy::builder().error_ttl(Duration::from_secs(1)).build().unwrap();
    let region = Region::builder().clock(clock.clone()).policy(policy).build().unwrap();
    for i in 0..20_000 {
        region.try_get_or_create(&format!("bad {i}"), || Err::<u32, _>("no")).unwrap_err();
        clock.advance(Duration::from_millis(1));
    }
    // A second's failures are a thousand; each of 64 shards forgets when it has doubled from 32.
    let left = core(&region).registry.len();
    assert!(left < 64 * 129, "{left} are remembered");
    assert!(left >= 1_000, "{left}: the last second's are among them");
}

/// In cachetory's form a value tells nothing of its age: the store ends it when it is no longer fresh.
#[test]
fn what_can_not_tell_its_age_is_never_stale() {
    use crate::backend::MemoryBackend;
    use crate::codec::{Codec, Envelope};

    let minute = Duration::from_secs(60);
    for stale in [None, Some(Duration::ZERO), Some(10 * minute)] {
        let clock = ManualClock::new();
        let mut policy = RegionPolicy::builder().fresh(minute);
        if let Some(stale) = stale {
            policy = policy.stale(stale);
        }
        let backend = MemoryBackend::builder().serialized(true).clock(clock.clone()).build().unwrap();
        let region = Region::builder()
            .backend(backend)
            .codec(Codec::json().envelope(Envelope::Plain))
            .policy(policy.build().unwrap())
            .clock(clock.clone())
            .build()
            .unwrap();
        region.set("set", 1).unwrap();
        region.get_or_create("made", || 1).unwrap();
        clock.advance(minute - Duration::from_millis(1));
        for key in ["set", "made"] {
            assert_eq!(region.get::<i32>(key).unwrap().as_deref(), Some(&1), "{key}, stale {stale:?}");
        }
        clock.advance(Duration::from_millis(1));
        for key in ["set", "made"] {
            assert_eq!(region.get::<i32>(key).unwrap(), None, "{key}, stale {stale:?}");
            assert_eq!(*region.get_or_create(key, || 2).unwrap(), 2);
        }
    }
}

/// A waker of the user's that panics must not leave the others asleep.
#[test]
fn a_stripe_wakes_all_who_wait() {
    use super::stripe::Stripe;
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("an executor in trouble");
        }
    }
    #[derive(Default)]
    struct Counts(AtomicU32);
    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let stripe = Stripe::default();
    let held = at_once(stripe.take());
    let (mut first, mut second) = (pin!(stripe.take()), pin!(stripe.take()));
    let (bad, count) = (Waker::from(Arc::new(Panics)), Arc::new(Counts::default()));
    let good = Waker::from(Arc::clone(&count));
    assert!(first.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
    // Polled for other reasons meanwhile, it is still one that waits.
    for _ in 0..3 {
        assert!(second.as_mut().poll(&mut Context::from_waker(&good)).is_pending());
    }
    drop(held);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(matches!(second.as_mut().poll(&mut Context::from_waker(&good)), Poll::Ready(_)));
}
