//! Asynchronous functions.

use super::Runs;
use crate::common::{Hold, Kept, Polled, one_pause};
use dogpile::time::ManualClock;
use dogpile::{Cache, cached};
use std::sync::LazyLock;
use std::time::Duration;

#[test]
fn without_a_runtime() {
    static RUNS: Runs = Runs::new();

    #[cached]
    async fn fetch(url: &str, _depth: u32) -> Result<usize, String> {
        RUNS.another();
        one_pause().await;
        if url.is_empty() { Err(String::from("empty")) } else { Ok(url.len()) }
    }
    pollster::block_on(async {
        assert_eq!((fetch("http", 1).await, fetch("http", 1).await, RUNS.count()), (Ok(4), Ok(4), 1));
        assert_eq!(
            (fetch("", 1).await, fetch("", 1).await, RUNS.count()),
            (Err("empty".into()), Err("empty".into()), 3)
        );
        // To look is no task.
        assert_eq!((fetch::get("http", 1), fetch::get("", 1)), (Some(4), None));
        fetch::set(9, "http", 1);
        assert_eq!((fetch("http", 1).await, fetch::refresh("http", 1).await), (Ok(9), Ok(4)));
        assert_eq!((fetch::invalidate("http", 1), fetch::original("http", 1).await), (true, Ok(4)));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_tasks_one_runs_the_function() {
    static RUNS: Runs = Runs::new();
    static HOLD: LazyLock<Hold> = LazyLock::new(Hold::default);

    #[cached]
    async fn slow(name: String) -> String {
        RUNS.another();
        HOLD.here_async().await;
        name + "!"
    }
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(slow(String::from("a")))).collect();
    while slow::cache().stats().waits < 7 {
        tokio::task::yield_now().await;
    }
    HOLD.go();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "a!");
    }
    assert_eq!(RUNS.count(), 1);
}

#[test]
fn a_stale_value_at_once_and_a_new_one_in_the_background() {
    static RUNS: Runs = Runs::new();
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static KEPT: LazyLock<Kept> = LazyLock::new(Kept::default);

    #[cached(fresh = "1m", stale = "1h", clock = CLOCK.clone(), runner = KEPT.clone())]
    async fn quote(_symbol: &str) -> usize {
        one_pause().await;
        RUNS.another()
    }
    pollster::block_on(async {
        assert_eq!(quote("A").await, 1);
        CLOCK.advance(Duration::from_secs(60));
        assert_eq!((quote("A").await, quote("A").await, KEPT.run()), (1, 1, 1));
        assert_eq!(quote("A").await, 2);
    });
}

/// Whoever leads may be dropped.
#[test]
fn a_task_that_is_dropped_hands_the_lead_on() {
    static RUNS: Runs = Runs::new();
    static HOLD: LazyLock<Hold> = LazyLock::new(Hold::default);

    #[cached]
    async fn slow(_n: u32) -> usize {
        let run = RUNS.another();
        if run == 1 {
            HOLD.here_async().await;
        }
        run
    }
    let mut leader = Polled::new(slow(1));
    assert_eq!(leader.poll(), None);
    let mut waiter = Polled::new(slow(1));
    assert_eq!(waiter.poll(), None);
    drop(leader);
    assert_eq!((waiter.woken(), waiter.poll()), (1, Some(2)));
}

#[test]
fn methods_and_caches_of_the_users() {
    // An `Option` is cached as one.
    #[derive(Clone)]
    struct Found {
        pages: Cache<String, Option<usize>>,
    }
    impl Found {
        #[cached(cache = self.pages, self = skip, wait = "1m")]
        async fn page(&self, url: &str) -> Option<usize> {
            one_pause().await;
            (!url.is_empty()).then_some(url.len())
        }
    }
    let found = Found { pages: Cache::new(10) };
    pollster::block_on(async {
        assert_eq!((found.page("a").await, found.page("").await), (Some(1), None));
    });
    assert_eq!((found.pages.len(), found.page_get("a"), found.page_get("")), (1, Some(1), None));
}

/// As its own future is, so is that of the memoised function.
#[test]
fn the_future_can_be_sent() {
    #[cached]
    async fn sent(list: &[String], map: Option<&str>) -> usize {
        one_pause().await;
        list.len() + map.map_or(0, str::len)
    }
    fn can_be_sent<T: Send>(future: T) -> T {
        future
    }
    let list = vec![String::from("a")];
    assert_eq!(pollster::block_on(can_be_sent(sent(&list, Some("b")))), 2);
}
