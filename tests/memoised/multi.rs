//! Functions of many keys.

use super::Runs;
use crate::common::{one_pause, panics};
use dogpile::{Cache, cached};
use std::sync::Mutex;

#[test]
fn one_call_for_what_is_missing_and_the_order_is_kept() {
    static ASKED: Mutex<Vec<Vec<u64>>> = Mutex::new(Vec::new());

    #[cached(multi)]
    fn squares(ids: &[u64]) -> Vec<u64> {
        ASKED.lock().unwrap().push(ids.to_vec());
        ids.iter().map(|id| id * id).collect()
    }
    assert_eq!(squares(&[2]), [4]);
    assert_eq!(squares(&[3, 2, 1, 3]), [9, 4, 1, 9]);
    assert_eq!(squares(&[1, 2, 3]), [1, 4, 9]);
    assert_eq!(squares(&[]), [0_u64; 0]);
    assert_eq!(*ASKED.lock().unwrap(), [vec![2], vec![3, 1]]);
    // Helpers take keys, too.
    assert_eq!(squares::get(&[3, 4]), [Some(9), None]);
    squares::set([(4, 0), (5, 1)]);
    assert_eq!(squares(&[5, 4]), [1, 0]);
    assert_eq!(squares::refresh(&[4, 5]), [16, 25]);
    assert_eq!(squares(&[5, 4]), [25, 16]);
    assert_eq!(squares::invalidate(&[1, 2, 7]), 2);
    assert_eq!((squares::original(&[7]), squares::get(&[1, 7])), (vec![49], vec![None, None]));
    assert_eq!(squares::cache().len(), 3);
}

#[test]
fn borrowed_keys_and_other_arguments() {
    static RUNS: Runs = Runs::new();

    #[derive(Clone)]
    struct Database {
        lengths: Cache<String, usize>,
    }
    impl Database {
        #[cached(multi, cache = self.lengths, self = skip, skip(factor, unit))]
        fn lengths(&self, names: &[&str], factor: usize, unit: String) -> Result<Vec<usize>, String> {
            RUNS.another();
            if names.contains(&"") {
                return Err(format!("no {unit}"));
            }
            Ok(names.iter().map(|name| name.len() * factor).collect())
        }
    }
    let database = Database { lengths: Cache::new(10) };
    let all = |names: &[&str]| database.lengths(names, 2, String::from("m"));
    assert_eq!(all(&["a", "bb"]), Ok(vec![2, 4]));
    assert_eq!((all(&["bb", ""]), all(&["bb"])), (Err("no m".into()), Ok(vec![4])));
    assert_eq!((RUNS.count(), database.lengths_get(&["a", "c"])), (2, vec![Some(2), None]));
    assert_eq!(database.lengths_refresh(&["a"], 3, String::new()), Ok(vec![3]));
    assert_eq!(database.lengths.get_cloned("a"), Some(3));
}

#[test]
fn what_is_not_found_is_not_cached() {
    static RUNS: Runs = Runs::new();

    #[cached(multi, should_cache = |found: &Option<u32>| *found != Some(6))]
    fn even(ids: &[u32]) -> Vec<Option<u32>> {
        RUNS.another();
        ids.iter().map(|id| (id % 2 == 0).then_some(*id)).collect()
    }
    assert_eq!(even(&[1, 2]), [None, Some(2)]);
    assert_eq!((even(&[2]), RUNS.count()), (vec![Some(2)], 1));
    assert_eq!((even(&[1, 2]), RUNS.count()), (vec![None, Some(2)], 2));
    assert_eq!((even(&[6]), even(&[6]), RUNS.count()), (vec![Some(6)], vec![Some(6)], 4));
    assert_eq!(
        (even::refresh(&[6, 3, 4]), even::get(&[6, 3, 4])),
        (vec![Some(6), None, Some(4)], vec![None, None, Some(4)])
    );
}

/// A mistake in the function, and none of what it returned is stored.
#[test]
fn the_wrong_number_of_values() {
    #[cached(multi)]
    fn short(ids: &[u32]) -> Vec<u32> {
        ids[1..].to_vec()
    }
    let expected = "the memoised function `short` was asked for 2 values and returned 1";
    assert_eq!(panics(|| short(&[1, 2])), expected);
    assert_eq!(panics(|| short::refresh(&[1, 2])), expected);
    assert_eq!(short::get(&[1, 2]), [None, None]);
}

#[test]
fn in_tasks() {
    static RUNS: Runs = Runs::new();

    #[cached(multi, skip(suffix))]
    async fn named(ids: &[String], suffix: &str) -> Vec<String> {
        RUNS.another();
        one_pause().await;
        ids.iter().map(|id| format!("{id}{suffix}")).collect()
    }
    fn can_be_sent<T: Send>(future: T) -> T {
        future
    }
    let ids = ["a", "b"].map(String::from);
    pollster::block_on(async {
        assert_eq!(can_be_sent(named(&ids[..1], "!")).await, ["a!"]);
        assert_eq!(can_be_sent(named(&ids, "?")).await, ["a!", "b?"]);
        assert_eq!((named(&ids, "").await, RUNS.count()), (vec!["a!".into(), "b?".into()], 2));
        assert_eq!(named::refresh(&ids, ".").await, ["a.", "b."]);
    });
    assert_eq!(named::get(&ids), [Some("a.".into()), Some("b.".into())]);
}
