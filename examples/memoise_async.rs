//! Functions that are memoised, for tasks: of a tokio runtime here, and of any other as well.

use dogpile::backend::MemoryBackend;
use dogpile::{AsyncRegion, Region, cached};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// How often the network was asked.
static REQUESTS: AtomicU32 = AtomicU32::new(0);

async fn request(path: &str) -> Result<String, String> {
    REQUESTS.fetch_add(1, SeqCst);
    tokio::task::yield_now().await;
    if path.is_empty() { Err(String::from("no path")) } else { Ok(format!("body of {path}")) }
}

/// In a cache of its own. While a stale page is made anew all get it; who begins with that waits 100 ms for the new one.
#[cached(max_entries = 1_000, fresh = "10m", stale = "2h", soft_timeout = "100ms", early = xfetch)]
async fn page(path: &str) -> Result<String, String> {
    request(path).await
}

/// In a region for tasks.
static QUOTES: LazyLock<AsyncRegion> = LazyLock::new(|| {
    let store = MemoryBackend::new();
    Region::builder().name("quotes").backend(store).build_async().expect("these settings contradict nothing")
});

#[cached(region = QUOTES, fresh = "1m", error_ttl = "1s")]
async fn quote(symbol: String, currency: Option<&str>) -> Result<String, String> {
    request(&format!("/{symbol}/{}", currency.unwrap_or("EUR"))).await
}

/// One request for all that are not there.
#[cached(multi)]
async fn titles(ids: &[u32]) -> Vec<String> {
    REQUESTS.fetch_add(1, SeqCst);
    ids.iter().map(|id| format!("title {id}")).collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks: Vec<_> = (0..100).map(|_| tokio::spawn(page("/index"))).collect();
    for task in tasks {
        assert_eq!(task.await??, "body of /index");
    }
    assert_eq!(REQUESTS.swap(0, SeqCst), 1, "a hundred tasks, one request");
    assert!(page("").await.is_err());
    // To look, to put in and to take out is done at once, in a cache.
    assert_eq!(page::get("/index").as_deref(), Some("body of /index"));
    assert!(page::invalidate("/index"));
    assert_eq!(page::refresh("/index").await?, "body of /index");
    REQUESTS.store(0, SeqCst);

    for _ in 0..3 {
        assert_eq!(quote(String::from("ABC"), None).await?, "body of /ABC/EUR");
        assert_eq!(quote(String::from("ABC"), Some("USD")).await?, "body of /ABC/USD");
    }
    assert_eq!(REQUESTS.swap(0, SeqCst), 2);
    // A region's store may make one wait, so its helpers are futures.
    assert!(quote::invalidate(String::from("ABC"), None).await?);
    assert_eq!(quote::get(String::from("ABC"), None).await?, None);

    assert_eq!(titles(&[1, 2]).await, ["title 1", "title 2"]);
    assert_eq!(titles(&[2, 3]).await, ["title 2", "title 3"]);
    assert_eq!(titles::cache().stats().misses, 3);
    assert_eq!(REQUESTS.swap(0, SeqCst), 2);
    println!("every function was asked for its values more often than it was run");
    Ok(())
}
