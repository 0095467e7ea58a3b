//! Cached fragments of pages: a function `cache` for templates, whose block is rendered once for all who want it at once, and
//! again when its time is over or its tag is invalidated.
//!
//! ```text
//! {% call cache("top-ten", 60, tag="sales") %} … {% endcall %}
//! ```

use dogpile::Region;
use dogpile::backend::MemoryBackend;
use dogpile::region::{How, Scope};
use dogpile::time::ManualClock;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, State, context};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

static FRAGMENTS: Region = Region::new("fragments");

/// How often the database was asked.
static QUERIES: AtomicU32 = AtomicU32::new(0);

const PAGE: &str = r#"Hello {{ user }}!
{% call cache("top-ten", 60, tag="sales") %}{% for title in best_sellers() %}<li>{{ title }}</li>{% endfor %}{% endcall %}
{% call cache("basket:" ~ user, 60) %}<b>basket of {{ user }}</b>{% endcall %}"#;

fn failed(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InvalidOperation, "the fragment could not be had").with_source(why)
}

/// The block's text, out of the cache or rendered now, fresh for so many seconds.
fn cache(state: &mut State<'_, '_>, key: &str, seconds: u64, options: Kwargs) -> Result<Value, Error> {
    let (block, tag) = (options.get::<Value>("caller")?, options.get::<Option<String>>("tag")?);
    options.assert_all_used()?;
    let policy = FRAGMENTS.policy().map_err(failed)?;
    let policy = policy.to_builder().fresh(Duration::from_secs(seconds)).build().map_err(failed)?;
    let text = FRAGMENTS
        .with(&policy)
        .tagged(tag)
        .try_get_or_create(key, || block.call(state, &[]).map(|text| text.to_string()))
        .map_err(failed)?;
    // It was escaped when it was rendered.
    Ok(Value::from_safe_string((*text).clone()))
}

fn best_sellers() -> Result<Vec<String>, Error> {
    let query = QUERIES.fetch_add(1, SeqCst) + 1;
    // The first one lasts until seven others wait for it.
    while FRAGMENTS.stats().waits < 7 {
        std::thread::yield_now();
    }
    if query == 3 {
        return Err(Error::new(ErrorKind::InvalidOperation, "the database is away"));
    }
    Ok(vec![format!("Lamps & more, list {query}")])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = ManualClock::new();
    let backend = MemoryBackend::builder().max_weight(1 << 20).clock(clock.clone()).build()?;
    FRAGMENTS.configure(Region::builder().backend(backend).clock(clock.clone()))?;
    let mut pages = Environment::new();
    pages.add_function("cache", cache);
    pages.add_function("best_sellers", best_sellers);
    pages.add_template("page.html", PAGE)?;
    let render = &|user: &str| pages.get_template("page.html")?.render(context! { user });

    // Eight threads render the page at once; the list is asked for and rendered by one.
    let texts = std::thread::scope(|scope| {
        let users = ["Ada", "Alan", "Ada", "Grace", "Ada", "Edsger", "Barbara", "Ada"];
        let threads = users.map(|user| scope.spawn(move || render(user).map(|text| (user, text))));
        threads.map(|thread| thread.join().expect("nobody panics"))
    });
    for text in texts {
        let (user, text) = text?;
        assert!(
            text.starts_with(&format!("Hello {user}!")),
            "what is not in a fragment is rendered for each"
        );
        assert!(text.contains("<li>Lamps &amp; more, list 1</li>"), "it is escaped once: {text}");
        assert!(text.contains(&format!("<b>basket of {user}</b>")), "its key has the user in it: {text}");
    }
    assert_eq!(
        (QUERIES.load(SeqCst), FRAGMENTS.stats().creations),
        (1, 6),
        "one list, and a basket for each of five"
    );

    // When its time is over it is rendered again, and once.
    clock.advance(Duration::from_secs(60));
    assert!(render("Ada")?.contains("list 2") && render("Alan")?.contains("list 2"));
    assert_eq!(QUERIES.load(SeqCst), 2);

    // A failure is an error of that page, and not kept: the next one tries again.
    FRAGMENTS.invalidate(Scope::Tag("sales"), How::Hard)?;
    let error = render("Ada").expect_err("the database is away");
    assert!(format!("{error:#}").contains("the fragment could not be had"), "{error:#}");
    assert!(render("Ada")?.contains("list 4"));
    println!("{} lists for 12 pages: {:?}", QUERIES.load(SeqCst), FRAGMENTS.stats());
    Ok(())
}
