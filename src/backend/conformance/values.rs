//! Checks of single entries: what comes back, and for how long.
#![forbid(unsafe_code)]

use super::super::{Stored, Takes};
use super::{Bench, Not, checks, ensure};
use std::time::Duration;

checks![
    a_missing_key_has_no_value,
    what_keeps_nothing_says_so,
    values_come_back,
    a_value_overwrites,
    keys_are_told_apart,
    delete_takes_out,
    delete_is_idempotent,
    expires_after_its_ttl,
    the_newest_ttl_counts,
    a_ttl_may_be_anything,
    expire_of_nothing_is_false,
    expire_rewrites,
];

fn a_missing_key_has_no_value(bench: &Bench) -> Result<(), Not> {
    bench.has_none(&bench.key("missing"), "a key that nobody has set")
}

fn what_keeps_nothing_says_so(bench: &Bench) -> Result<(), Not> {
    if bench.keeps {
        return Err(Not::Applicable("the store is meant to keep values"));
    }
    let (key, value) = (bench.key("key"), bench.value(1));
    bench.set(&key, &value, None)?;
    bench.has_none(&key, "a store that is meant to keep nothing")?;
    let found = bench.subject.get_multi(&[&key, &key])?;
    ensure!(found.len() == 2 && found.iter().all(Option::is_none), "get_multi: something was kept");
    bench.subject.delete(&key)?;
    Ok(())
}

fn values_come_back(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let mut entries: Vec<(String, Stored)> =
        (0..100).map(|i| (bench.key(&format!("key {i}").replace(' ', "-")), bench.value(i))).collect();
    if bench.subject.takes() == Takes::Bytes {
        let all: Vec<u8> = (0..=255).collect();
        for (name, bytes) in [("empty", vec![]), ("every-byte", all), ("long", vec![0xA5; 100_000])] {
            entries.push((bench.key(name), Stored::from(bytes)));
        }
    }
    for (key, value) in &entries {
        bench.set(key, value, None)?;
    }
    for (i, (key, value)) in entries.iter().enumerate() {
        bench.has(key, value, &format!("{} keys were set, number {i} is read", entries.len()))?;
    }
    Ok(())
}

fn a_value_overwrites(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let key = bench.key("key");
    for i in 0..3 {
        let value = bench.value(i);
        bench.set(&key, &value, None)?;
        bench.has(&key, &value, "a key that was set again")?;
    }
    Ok(())
}

fn keys_are_told_apart(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let keys = bench.keys(&["a", "A", "aa", "a.", "a:b", "a:", ":a", "a:b:c", "0", "00"]);
    let values: Vec<Stored> = (0..).map(|i| bench.value(i)).take(keys.len()).collect();
    for (key, value) in keys.iter().zip(&values) {
        bench.set(key, value, None)?;
    }
    for (key, value) in keys.iter().zip(&values) {
        bench.has(key, value, "keys that are nearly alike")?;
    }
    Ok(())
}

fn delete_takes_out(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let (key, other, value) = (bench.key("key"), bench.key("other"), bench.value(1));
    bench.set(&key, &value, None)?;
    bench.set(&other, &value, None)?;
    ensure!(bench.subject.delete(&key)?, "delete says that there was nothing, and there was");
    bench.has_none(&key, "after delete")?;
    bench.has(&other, &value, "after another key was deleted")?;
    bench.set(&key, &value, None)?;
    bench.has(&key, &value, "set after delete")
}

fn delete_is_idempotent(bench: &Bench) -> Result<(), Not> {
    let key = bench.key("key");
    let never = bench.subject.delete(&bench.key("never"));
    ensure!(never.is_ok(), "delete of a key that was never there returned an error");
    bench.set(&key, &bench.value(1), None)?;
    bench.subject.delete(&key)?;
    ensure!(bench.subject.delete(&key).is_ok(), "a second delete returned an error");
    bench.has_none(&key, "after two deletes")
}

fn expires_after_its_ttl(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    bench.pass(Duration::ZERO)?;
    let keys = bench.keys(&["short", "long", "none"]);
    let value = bench.value(1);
    for (key, ttl) in keys.iter().zip([Some(bench.ttl), Some(bench.ttl * 100), None]) {
        bench.set(key, &value, ttl)?;
    }
    bench.pass(bench.ttl / 4)?;
    for key in &keys {
        bench.has(key, &value, "before the time to live is over")?;
    }
    bench.pass(bench.ttl * 2)?;
    bench.has_none(&keys[0], "after its time to live")?;
    bench.has(&keys[1], &value, "a longer time to live is not over")?;
    bench.has(&keys[2], &value, "an entry without a time to live")?;
    let found = bench.subject.get_multi(&[&keys[0]])?;
    ensure!(found.iter().all(Option::is_none), "get_multi: after its time to live there is a value");
    ensure!(bench.subject.delete(&keys[0]).is_ok(), "delete of what has expired returned an error");
    bench.set(&keys[0], &value, None)?;
    bench.has(&keys[0], &value, "set after it had expired")
}

fn the_newest_ttl_counts(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    bench.pass(Duration::ZERO)?;
    let (longer, shorter, value) = (bench.key("longer"), bench.key("shorter"), bench.value(1));
    bench.set(&longer, &value, Some(bench.ttl))?;
    bench.set(&longer, &value, None)?;
    bench.set(&shorter, &value, None)?;
    bench.set(&shorter, &value, Some(bench.ttl))?;
    bench.pass(bench.ttl * 2)?;
    bench.has(&longer, &value, "set with a time to live, and then without")?;
    bench.has_none(&shorter, "set without a time to live, then with one that is over")
}

fn a_ttl_may_be_anything(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let value = bench.value(1);
    let [zero, tiny, endless] = ["zero", "tiny", "endless"].map(|name| bench.key(name));
    bench.set(&zero, &value, None)?;
    bench.set(&zero, &value, Some(Duration::ZERO))?;
    bench.has_none(&zero, "a time to live of zero is over at once")?;
    // It may be over or not; it is no error, and not for ever.
    bench.set(&tiny, &value, Some(Duration::from_nanos(1)))?;
    bench.set(&endless, &value, Some(Duration::MAX))?;
    bench.has(&endless, &value, "the longest time to live")?;
    if bench.advance.is_some() {
        bench.pass(bench.ttl * 2)?;
        bench.has_none(&tiny, "a time to live of a nanosecond")?;
        bench.has(&endless, &value, "the longest time to live, some time later")?;
    }
    Ok(())
}

fn expire_of_nothing_is_false(bench: &Bench) -> Result<(), Not> {
    let key = bench.key("missing");
    for ttl in [None, Some(bench.ttl), Some(Duration::ZERO)] {
        ensure!(!bench.subject.expire(&key, ttl)?, "expire of a key that is not there returned true");
        bench.has_none(&key, "after expire of a key that is not there")?;
    }
    Ok(())
}

fn expire_rewrites(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let value = bench.value(1);
    let [over, ends, stays, other] = ["over", "ends", "stays", "other"].map(|name| bench.key(name));
    for (key, ttl) in [(&over, None), (&ends, None), (&stays, Some(bench.ttl)), (&other, None)] {
        bench.set(key, &value, ttl)?;
    }
    for (key, ttl) in [(&over, Some(Duration::ZERO)), (&ends, Some(bench.ttl)), (&stays, None)] {
        ensure!(bench.subject.expire(key, ttl)?, "expire of a key that is there returned false");
    }
    bench.has_none(&over, "expire with zero is over at once")?;
    bench.has(&ends, &value, "expire keeps the value")?;
    bench.has(&stays, &value, "expire keeps the value")?;
    bench.pass(bench.ttl * 2)?;
    bench.has_none(&ends, "after the time that expire gave")?;
    bench.has(&stays, &value, "expire took its time to live away")?;
    bench.has(&other, &value, "expire of another key")?;
    ensure!(!bench.subject.expire(&ends, None)?, "expire of what has expired returned true");
    bench.has_none(&ends, "expire after the time to live is over")
}
