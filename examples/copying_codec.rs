//! A codec of one's own that copies. A store of this process gives all callers the same value; where a value can be changed
//! behind its reference, what one caller does shows to all. With a codec each hit is a copy that its caller may change.

use dogpile::backend::MemoryBackend;
use dogpile::codec::{Codec, InMemory};
use dogpile::{Error, Region};
use std::string::FromUtf8Error;
use std::sync::{Arc, Mutex, PoisonError};

/// Can be changed by whoever has a reference.
#[derive(Debug, Default)]
struct Basket {
    articles: Mutex<Vec<String>>,
}

impl Basket {
    fn of(articles: &[&str]) -> InMemory<Self> {
        let articles = articles.iter().map(|&article| article.to_owned()).collect();
        InMemory(Self { articles: Mutex::new(articles) })
    }

    fn add(&self, article: &str) {
        self.articles.lock().unwrap_or_else(PoisonError::into_inner).push(article.to_owned());
    }

    fn list(&self) -> Vec<String> {
        self.articles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Copies a basket into bytes, each article with its length before it, and out again.
fn copying() -> Codec {
    Codec::from_fns(
        |basket: &InMemory<Basket>| {
            let mut bytes = Vec::new();
            for article in basket.0.list() {
                bytes.extend((article.len() as u64).to_le_bytes());
                bytes.extend(article.into_bytes());
            }
            Ok(bytes)
        },
        |mut bytes| {
            let mut articles = Vec::new();
            while let Some((length, rest)) = bytes.split_first_chunk() {
                // What is cut off ends in an article that is too short: the envelope's checksum has found that before.
                let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
                let (article, rest) = rest.split_at(length.min(rest.len()));
                articles.push(String::from_utf8(article.to_vec())?);
                bytes = rest;
            }
            Ok::<_, FromUtf8Error>(InMemory(Basket { articles: Mutex::new(articles) }))
        },
    )
}

/// What the second caller finds, after the first one has changed what it got.
fn after_a_change(region: &Region) -> Result<Vec<String>, Error> {
    region.set("ada", Basket::of(&["lamp"]))?;
    let mine = region.get_or_create("ada", || Basket::of(&[]))?;
    mine.0.add("chair");
    let theirs = region.get_or_create("ada", || Basket::of(&[]))?;
    Ok(theirs.0.list())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The same object for all: fast, and right for values that nobody changes.
    let sharing = Region::in_memory();
    assert_eq!(after_a_change(&sharing)?, ["lamp", "chair"]);
    let (one, two) = (sharing.get::<InMemory<Basket>>("ada")?, sharing.get::<InMemory<Basket>>("ada")?);
    assert!(one.zip(two).is_some_and(|(one, two)| Arc::ptr_eq(&one, &two)));

    // A copy for each.
    let backend = MemoryBackend::builder().serialized(true).build()?;
    let region = Region::builder().backend(backend).codec(copying()).build()?;
    assert_eq!(after_a_change(&region)?, ["lamp"]);

    // It is its caller's own, and need not be cloned to be taken apart.
    let own = region.get::<InMemory<Basket>>("ada")?.ok_or("it was put in")?;
    let InMemory(basket) = Arc::try_unwrap(own).map_err(|_| "nobody else has it")?;
    basket.add("table");
    assert_eq!(basket.list(), ["lamp", "table"]);

    // Also what was made: the store has a copy of it, so what its maker changes later does not reach the store.
    let made = region.get_or_create("alan", || Basket::of(&["desk"]))?;
    made.0.add("drawer");
    let found = region.get::<InMemory<Basket>>("alan")?.ok_or("it was made")?;
    assert_eq!((made.0.list().len(), found.0.list()), (2, vec![String::from("desk")]));

    // To change what is stored is to store it.
    region.set("ada", InMemory(basket))?;
    let found = region.get::<InMemory<Basket>>("ada")?.ok_or("it was put in")?;
    assert_eq!(found.0.list(), ["lamp", "table"]);
    println!("{:?}", region.stats());
    Ok(())
}
