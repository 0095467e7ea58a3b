//! Invalidation: by tag, by prefix, by key and of all; softly, so that the old value is served while one caller makes the new
//! one, or for good. `explain` tells what became of a key.

use dogpile::region::{How, KeyState, Scope, SetOptions};
use dogpile::{Error, Region};

/// The state of a key, as `get_or_create` would find it.
fn state(region: &Region, key: &str) -> Result<KeyState, Error> {
    Ok(region.explain::<String>(key)?.state)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let region = Region::builder().name("shop").build()?;
    let text = |text: &str| String::from(text);
    let fresh = KeyState::Fresh { left: None };

    // Tags are given with a value that is stored, or with one that is made.
    region.set_with("article/7", text("Lamp"), SetOptions::new().tags(["article:7", "stock"]))?;
    region.tagged(["article:7", "user:1"]).get_or_create("basket/1", || text("one lamp"))?;
    region.tagged(["user:2"]).get_or_create("basket/2", || text("nothing"))?;
    region.set("about", text("We sell lamps."))?;

    // By a tag, for good: what has it is as if it were not there, and nothing else.
    region.invalidate(Scope::Tag("user:2"), How::Hard)?;
    assert_eq!(region.get::<String>("basket/2")?, None);
    assert_eq!(state(&region, "basket/2")?, KeyState::InvalidatedForGood);
    assert_eq!(state(&region, "basket/1")?, fresh);

    // By a tag, softly: a reader does not get it, and while one caller makes it anew the others do.
    region.invalidate(Scope::Tag("article:7"), How::Soft)?;
    for key in ["article/7", "basket/1"] {
        assert_eq!(region.get::<String>(key)?, None);
        assert_eq!(region.explain::<String>(key)?.to_string(), "stale: invalidated");
    }
    let anew = region.get_or_create("article/7", || {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| region.get_or_create("article/7", || text("Chair")));
            let other = other.join().expect("it does not panic").expect("memory does not fail");
            assert_eq!(*other, "Lamp", "it is not made twice, and nobody waits");
        });
        text("Lamp, dimmable")
    })?;
    assert_eq!((anew.as_str(), state(&region, "article/7")?), ("Lamp, dimmable", fresh));

    // A soft invalidation does not weaken one for good.
    region.invalidate(Scope::Tag("user:2"), How::Soft)?;
    assert_eq!(state(&region, "basket/2")?, KeyState::InvalidatedForGood);

    // By a prefix, and by a key.
    region.invalidate(Scope::Prefix("basket/"), How::Hard)?;
    assert_eq!(state(&region, "basket/1")?, KeyState::InvalidatedForGood);
    assert_eq!(state(&region, "article/7")?, fresh);
    region.invalidate(Scope::Key("article/7"), How::Hard)?;
    assert_eq!(region.explain::<String>("article/7")?.to_string(), "missing: not in the store");

    // An invalidation during a creation is not lost: who asked gets the value, and it does not count as fresh.
    let price = region.tagged(["prices"]).get_or_create("price/7", || {
        region.invalidate(Scope::Tag("prices"), How::Hard).expect("memory does not fail");
        text("12.50, of a moment ago")
    })?;
    assert_eq!(*price, "12.50, of a moment ago");
    assert_eq!(region.get::<String>("price/7")?, None);

    // All. What comes later is fresh again.
    assert_eq!(state(&region, "about")?, fresh);
    region.invalidate(Scope::Region, How::Hard)?;
    assert_eq!(state(&region, "about")?, KeyState::InvalidatedForGood);
    region.set("about", text("We sell lamps and chairs."))?;
    assert_eq!(state(&region, "about")?, fresh);
    println!("{}", region.explain::<String>("basket/1")?);
    Ok(())
}
