//! Checks of many entries at once, of writes that depend, and of prefixes.
#![forbid(unsafe_code)]

use super::super::{Put, Stored};
use super::{Bench, Not, borrowed, checks, ensure};
use crate::sync::{Ordering, mpsc, plain::AtomicUsize, scope};
use std::time::Duration;

checks![
    empty_batches_do_nothing,
    batches_are_not_altered,
    get_multi_keeps_order,
    set_multi_has_times_to_live,
    delete_multi_is_idempotent,
    set_unless_asks_for_each,
    set_unless_is_one_step,
    if_absent_on_expired,
    len_counts_a_prefix,
    clear_takes_the_prefix_only,
];

fn many(bench: &Bench, most: u64) -> (Vec<String>, Vec<Stored>) {
    (0..most).map(|i| (bench.key(&format!("key-{i}")), bench.value(i))).unzip()
}

fn puts<'p>(keys: &'p [String], values: &'p [Stored]) -> Vec<Put<'p>> {
    keys.iter().zip(values).map(|(key, value)| Put::new(key, value)).collect()
}

fn empty_batches_do_nothing(bench: &Bench) -> Result<(), Not> {
    ensure!(bench.subject.get_multi(&[])?.is_empty(), "get_multi of no keys returned values");
    bench.subject.set_multi(&[])?;
    bench.subject.delete_multi(&[])?;
    if let Some(done) = bench.subject.set_unless(&[], &|_, _| false) {
        ensure!(done?.is_empty(), "set_unless of nothing returned something");
    }
    Ok(())
}

/// All of a batch is done, none of it twice, and nothing else.
fn batches_are_not_altered(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let (keys, values) = many(bench, 50);
    bench.subject.set_multi(&puts(&keys, &values))?;
    for (i, (key, value)) in keys.iter().zip(&values).enumerate() {
        bench.has(key, value, &format!("set_multi of {}, number {i} read alone", keys.len()))?;
    }
    let mut asked = borrowed(&keys);
    let missing = bench.key("missing");
    asked.push(&missing);
    let found = bench.subject.get_multi(&asked)?;
    ensure!(found.len() == asked.len(), "get_multi of {} keys returned {} values", asked.len(), found.len());
    let there = found.iter().flatten().count();
    ensure!(there == keys.len(), "get_multi found {there} of {} keys that are there", keys.len());
    // The last of a key's entries in one batch is what it has.
    let twice = [Put::new(&keys[0], &values[1]), Put::new(&keys[0], &values[2])];
    bench.subject.set_multi(&twice)?;
    bench.has(&keys[0], &values[2], "a key twice in a batch")
}

fn get_multi_keeps_order(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let (keys, values) = many(bench, 20);
    bench.subject.set_multi(&puts(&keys, &values))?;
    let missing = bench.key("missing");
    // From the end, with holes, and one of them twice.
    let mut asked: Vec<(&str, Option<&Stored>)> = Vec::new();
    for (key, value) in keys.iter().zip(&values).rev() {
        asked.push((key, Some(value)));
        asked.push((&missing, None));
    }
    asked.push((&keys[7], Some(&values[7])));
    let found = bench.subject.get_multi(&asked.iter().map(|(key, _)| *key).collect::<Vec<_>>())?;
    ensure!(found.len() == asked.len(), "get_multi of {} keys returned {} values", asked.len(), found.len());
    for (i, (found, (_, value))) in found.iter().zip(&asked).enumerate() {
        let is_right = match (found, value) {
            (Some(found), Some(value)) => found.is_same(value),
            (None, None) => true,
            _ => false,
        };
        ensure!(is_right, "get_multi, in the place of key {i} stands another one's value");
    }
    Ok(())
}

fn set_multi_has_times_to_live(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    bench.pass(Duration::ZERO)?;
    let (keys, values) = many(bench, 3);
    let mut puts = puts(&keys, &values);
    puts[0] = puts[0].ttl(Some(bench.ttl));
    puts[1] = puts[1].ttl(Some(bench.ttl * 100));
    bench.subject.set_multi(&puts)?;
    bench.pass(bench.ttl * 2)?;
    bench.has_none(&keys[0], "set_multi, after its time to live")?;
    bench.has(&keys[1], &values[1], "set_multi, before the end of its time to live")?;
    bench.has(&keys[2], &values[2], "set_multi, without a time to live")
}

fn delete_multi_is_idempotent(bench: &Bench) -> Result<(), Not> {
    let (keys, values) = many(bench, 6);
    bench.subject.set_multi(&puts(&keys, &values))?;
    let most = borrowed(&keys[1..]);
    for when in ["after delete_multi", "after another delete_multi of the same keys"] {
        let done = bench.subject.delete_multi(&most);
        ensure!(done.is_ok(), "{when}: an error");
        for key in &most {
            bench.has_none(key, when)?;
        }
    }
    bench.kept()?;
    bench.has(&keys[0], &values[0], "after delete_multi of other keys")
}

const NO_STEP: Not = Not::Applicable("it has no set_unless: the region does without");

fn set_unless_asks_for_each(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let (keys, values) = many(bench, 4);
    let newer: Vec<Stored> = (0..4).map(|i| bench.value(100 + i)).collect();
    bench.subject.set_multi(&puts(&keys[..2], &values[..2]))?;
    let wrong = AtomicUsize::new(0);
    let keeps = |i: usize, now: Option<&Stored>| {
        let is_right = match now {
            Some(now) => i < 2 && now.is_same(&values[i]),
            None => i == 2 || i == 3,
        };
        if !is_right {
            wrong.fetch_add(1, Ordering::SeqCst);
        }
        i.is_multiple_of(2)
    };
    let done = bench.subject.set_unless(&puts(&keys, &newer), &keeps).ok_or(NO_STEP)??;
    let wrong = wrong.into_inner();
    ensure!(wrong == 0, "{wrong} times it was asked with another place in the batch, or another value");
    ensure!(done == [false, true, false, true], "of false, true, false, true it returned {done:?}");
    bench.has(&keys[0], &values[0], "set_unless that was told to keep")?;
    bench.has(&keys[1], &newer[1], "set_unless")?;
    bench.has_none(&keys[2], "set_unless that was told to keep nothing there")?;
    bench.has(&keys[3], &newer[3], "set_unless of a key that was not there")
}

/// A write that comes while `keeps` decides is either seen by it, or comes after.
fn set_unless_is_one_step(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let key = bench.key("key");
    let [old, late, newest] = [1, 2, 3].map(|i| bench.value(i));
    for before in [None, Some(&old)] {
        if let Some(before) = before {
            bench.set(&key, before, None)?;
        }
        let (begun, begins) = mpsc::channel();
        let (written, is_written) = mpsc::channel();
        let is_written = crate::sync::PlainMutex::new(is_written);
        let is_first = AtomicUsize::new(0);
        let keeps = |_: usize, now: Option<&Stored>| {
            if is_first.fetch_add(1, Ordering::SeqCst) == 0 {
                let _ = begun.send(());
                // A store that holds a lock makes the other one wait: then it comes after, and so does the answer.
                let _ = crate::sync::lock_plain(&is_written).recv_timeout(Duration::from_millis(300));
            }
            match (now, before) {
                (Some(now), Some(before)) => !now.is_same(before),
                (now, before) => now.is_some() != before.is_some(),
            }
        };
        let done = scope(|scope| {
            let (key, newest) = (&key, &newest);
            let other = scope.spawn(move || {
                let _ = begins.recv();
                let done = bench.set(key, newest, None);
                let _ = written.send(());
                done
            });
            let done = bench.subject.set_unless(&[Put::new(key, &late)], &keeps);
            // It may never have asked.
            let _ = begun.send(());
            let other = other.join().unwrap_or_else(|_| Err(Not::Passed(String::from("set panicked"))));
            other.map(|()| done)
        })?;
        done.ok_or(NO_STEP)??;
        bench.has(&key, &newest, "a write came while set_unless decided, and set_unless undid it")?;
        bench.subject.delete(&key)?;
    }
    Ok(())
}

fn if_absent_on_expired(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    bench.pass(Duration::ZERO)?;
    let key = bench.key("key");
    let [first, second] = [1, 2].map(|i| bench.value(i));
    let if_absent = |value| {
        let is_there = |_: usize, now: Option<&Stored>| now.is_some();
        let done = bench.subject.set_unless(&[Put::new(&key, value).ttl(Some(bench.ttl))], &is_there);
        Ok::<bool, Not>(done.ok_or(NO_STEP)?? == [true])
    };
    ensure!(if_absent(&first)?, "refused although the key has nothing");
    ensure!(!if_absent(&second)?, "put in although there is a value");
    bench.has(&key, &first, "set_unless that was told to keep")?;
    bench.pass(bench.ttl * 2)?;
    ensure!(if_absent(&second)?, "refused although what was there has expired");
    bench.has(&key, &second, "set_unless over what has expired")
}

/// Two prefixes, one of which looks like a pattern for the other's keys.
fn two_prefixes(bench: &Bench) -> Result<([String; 2], Vec<String>, Vec<String>, Stored), Not> {
    let prefixes = [bench.key("a*"), bench.key("ab")];
    let [own, others] = [0, 1].map(|i| {
        let prefix = &prefixes[i];
        ["", "1", "2", "a*", "long-name"].iter().take(5 - i).map(|end| format!("{prefix}{end}")).collect()
    });
    let (own, others): (Vec<String>, Vec<String>) = (own, others);
    let value = bench.value(1);
    for key in own.iter().chain(&others) {
        bench.set(key, &value, None)?;
    }
    Ok((prefixes, own, others, value))
}

fn len_counts_a_prefix(bench: &Bench) -> Result<(), Not> {
    let (prefixes, own, others, _) = two_prefixes(bench)?;
    let Some(len) = bench.subject.len(&prefixes[0])? else {
        return Err(Not::Applicable("it can't count its entries"));
    };
    bench.kept()?;
    ensure!(len == own.len() as u64, "{} keys begin so, it counts {len}", own.len());
    bench.subject.delete(&own[0])?;
    let len = bench.subject.len(&prefixes[0])?;
    ensure!(len == Some(own.len() as u64 - 1), "after a delete it counts {len:?}");
    let len = bench.subject.len(&prefixes[1])?;
    ensure!(len == Some(others.len() as u64), "another prefix has {}, it counts {len:?}", others.len());
    let len = bench.subject.len(&bench.key("nobody's"))?;
    ensure!(len == Some(0), "a prefix that no key has, it counts {len:?}");
    Ok(())
}

fn clear_takes_the_prefix_only(bench: &Bench) -> Result<(), Not> {
    let (prefixes, own, others, value) = two_prefixes(bench)?;
    let can = bench.subject.clear(&prefixes[0])?;
    bench.kept()?;
    for key in &others {
        bench.has(key, &value, "clear of another prefix took it out")?;
    }
    if !can {
        return Err(Not::Applicable("it can't find the entries of a prefix: regions treat them as missing"));
    }
    for key in &own {
        bench.has_none(key, "after clear of its prefix")?;
    }
    ensure!(bench.subject.clear(&prefixes[0])?, "a second clear says that it can't");
    bench.set(&own[0], &value, None)?;
    bench.has(&own[0], &value, "set after clear")
}
