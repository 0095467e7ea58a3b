//! A cache that is bounded by the weight of its entries, and in which they expire: by one time for all, by a shorter one for
//! some. A listener is told what leaves and why, and a manual clock lets time pass.

use dogpile::time::ManualClock;
use dogpile::{Cache, Handle, InsertOptions, RemovalCause};
use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many entries have left the cache, by why.
#[derive(Clone, Debug, Default)]
struct Gone(Arc<Mutex<HashMap<RemovalCause, u32>>>);

impl Gone {
    fn note(&self, cause: RemovalCause) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(cause).or_default() += 1;
    }

    /// How many since it was asked last.
    fn take(&self, cause: RemovalCause) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&cause).unwrap_or(0)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (clock, gone, second) = (ManualClock::new(), Gone::default(), Duration::from_secs(1));
    let listener = gone.clone();
    let pages = Cache::builder()
        .max_weight(1_000)
        .weigher(|path: &String, page: &Vec<u8>| (path.len() + page.len()) as u32)
        .time_to_live(60 * second)
        // What is empty now may soon be there.
        .expire_after(move |_, page| page.is_empty().then_some(5 * second))
        .listener(move |_: Handle<String, Vec<u8>>, cause| listener.note(cause))
        // The whole weight in one place, so that the counts below are exact.
        .shards(NonZero::<usize>::MIN)
        .clock(clock.clone())
        .build()?;

    // Twenty pages of weight 100 come, ten stay.
    for number in 0..20 {
        pages.insert(format!("/{number:02}"), vec![b'x'; 97]);
    }
    assert_eq!((pages.len(), pages.weight(), pages.capacity()), (10, 1_000, Some(1_000)));
    assert_eq!(gone.take(RemovalCause::Evicted), 10);

    // One large page needs the room of several small ones.
    pages.insert(String::from("/large"), vec![b'x'; 494]);
    assert_eq!(pages.get("/large").map(|page| page.len()), Some(494));
    assert!(pages.weight() <= 1_000 && gone.take(RemovalCause::Evicted) >= 5);

    // What is heavier than all the room comes back to its owner, and pushes nothing out.
    let refused = pages.insert(String::from("/huge"), vec![b'x'; 2_000]).ok_or("it can't be kept")?;
    assert_eq!((refused.len(), gone.take(RemovalCause::Evicted)), (2_000, 0));
    assert!(!pages.contains_key("/huge"));

    // Three times to live: the shorter one, the one of all, and one of its own.
    pages.clear();
    pages.insert(String::from("/empty"), Vec::new());
    pages.insert(String::from("/usual"), vec![b'x'; 10]);
    pages.insert_with(String::from("/long"), vec![b'x'; 10], InsertOptions::new().ttl(3_600 * second));
    let there = || ["/empty", "/usual", "/long"].map(|path| pages.contains_key(path));
    clock.advance(4 * second);
    assert_eq!(there(), [true, true, true]);
    clock.advance(second);
    assert_eq!(there(), [false, true, true], "at its deadline an entry is gone");
    clock.advance(55 * second);
    assert_eq!(there(), [false, false, true]);

    // The room of what has expired is free when it has been swept out: by later writes, or by this.
    pages.run_pending();
    assert_eq!((pages.len(), gone.take(RemovalCause::Expired)), (1, 2));
    println!("{:?}", pages.stats());
    Ok(())
}
