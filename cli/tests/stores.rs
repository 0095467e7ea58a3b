//! What `dogpile inspect`, `locks` and `invalidate` print and do: over a store in files, and over Redis.

mod common;
#[path = "../../tests/servers/mod.rs"]
mod servers;

use common::{dogpile, folder, run};
use dogpile::{Region, region::SetOptions};
use std::time::Duration;

/// A region over a folder of the test's own, and its URL.
fn region(test: &str, settings: &str) -> (Region, String) {
    let url = format!("file://{}?fresh=1h&codec=json&{settings}", folder(test).display());
    (Region::from_url(&url).expect("a good URL"), url)
}

/// What stands behind a name.
fn field(out: &str, name: &str) -> String {
    let line = out.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no line `{name}` in {out}"))[name.len()..].trim().to_owned()
}

#[test]
fn inspect_tells_what_there_is_and_the_value_only_if_it_is_asked_for() {
    let (region, url) = region("inspect", "prefix=pages:");
    let options = SetOptions::new().ttl(Duration::from_secs(600)).tags(["home", "a\tb"]);
    region.set_with("/", String::from("<h1>secret</h1>\u{1b}"), options).unwrap();
    let out = run(&["inspect", &url, "/"]).ok();
    assert_eq!(field(&out, "key"), "pages:/");
    assert_eq!(field(&out, "store"), "file");
    assert!(field(&out, "state").starts_with("fresh for another 59"), "{out}");
    let size = field(&out, "size");
    assert!(size.ends_with("bytes in the envelope own, 23 of the value's own when decompressed"), "{size}");
    assert!(field(&out, "made").contains("s after 1970, "), "{out}");
    assert_eq!(field(&out, "lives"), "10 min 0 s");
    assert_eq!(field(&out, "tags"), r"home, a\tb");
    assert_eq!(field(&out, "lock"), "free");
    assert!(!out.contains("secret"), "{out}");
    let out = run(&["inspect", &url, "/", "--value"]).ok();
    assert_eq!(field(&out, "value"), r#""<h1>secret</h1>\u001b""#);
    // By options, in the place of the URL's settings.
    let bare = url.split('?').next().unwrap();
    let again = run(&["inspect", bare, "/", "--codec", "json", "--prefix", "pages:", "--value"]).ok();
    assert_eq!(field(&again, "value"), field(&out, "value"));
    let other = run(&["inspect", bare, "/", "--prefix", "pages:", "--value"]).ok();
    assert_eq!(
        field(&other, "state"),
        "missing: what is stored can't be decoded, it was written by another codec"
    );
    assert_eq!(field(&other, "value"), "can't be read by this codec");
    let none = run(&["inspect", &url, "no such\nkey"]).ok();
    assert_eq!(field(&none, "key"), r"pages:no such\nkey");
    assert_eq!(field(&none, "state"), "missing: not in the store");
}

#[test]
fn locks_tells_who_makes_what() {
    let (region, url) = region("locks", "prefix=pages:");
    assert_eq!(run(&["locks", &url]).ok(), "no lock is held\n");
    let (outer, inner) = (format!("process {}", std::process::id()), String::from("made"));
    let made = region.get_or_create("a", || {
        region
            .get_or_create("b", || {
                let out = run(&["locks", &url]).ok();
                let lines: Vec<&str> = out.lines().collect();
                assert!(lines[0].starts_with(&format!("pages:a: held by {outer}, since ")), "{out}");
                assert!(lines[1].starts_with(&format!("pages:b: held by {outer}, since ")), "{out}");
                assert_eq!(lines[2..], ["2 locks are held"], "{out}");
                let one = run(&["locks", &url, "--prefix", "b"]).ok();
                assert!(one.starts_with("pages:b: ") && one.ends_with("\n1 lock is held\n"), "{one}");
                let told = field(&run(&["inspect", &url, "a"]).ok(), "lock");
                assert!(told.starts_with(&format!("held by {outer}, since ")), "{told}");
                inner.clone()
            })
            .unwrap()
            .to_string()
    });
    assert_eq!(*made.unwrap(), "made");
    assert_eq!(run(&["locks", &url]).ok(), "no lock is held\n");
}

#[test]
fn invalidate_takes_out_what_is_named() {
    let (region, url) = region("invalidate", "prefix=pages:");
    let bare = url.split('?').next().unwrap();
    let another = Region::from_url(&format!("{bare}?prefix=other:&codec=json")).unwrap();
    another.set("/", 1).unwrap();
    for key in ["/", "/a", "/a/1", "/a/2", "/b"] {
        region.set(key, 1).unwrap();
    }
    let there = || ["/", "/a", "/a/1", "/a/2", "/b"].map(|key| region.get::<i32>(key).unwrap().is_some());
    assert_eq!(run(&["invalidate", &url, "--key", "/b"]).ok(), "deleted\n");
    assert_eq!(run(&["invalidate", &url, "--key", "/b"]).ok(), "there was nothing\n");
    assert_eq!(there(), [true, true, true, true, false]);
    assert_eq!(run(&["invalidate", &url, "--prefix", "/a/"]).ok(), "taken out of the store\n");
    assert_eq!(there(), [true, true, false, false, false]);
    assert_eq!(run(&["invalidate", &url, "--all"]).ok(), "taken out of the store\n");
    assert_eq!(there(), [false; 5]);
    assert_eq!(another.get::<i32>("/").unwrap().as_deref(), Some(&1), "another region's");
    for arguments in [&["--tag", "x"][..], &["--all", "--soft"], &["--key", "x", "--soft"]] {
        let ran = run(&[&["invalidate", &url], arguments].concat());
        ran.fails_with(&["the store `file`", "notes that processes share", "`shared_invalidation`"]);
    }
}

/// What is only noted reaches a region that runs.
#[test]
fn tags_are_noted_for_all_processes() {
    let (region, url) = region("tags", "shared_invalidation=pages&stale=1h");
    for (key, tag) in [("a", "one"), ("b", "two")] {
        region.set_with(key, 1, SetOptions::new().tags([tag])).unwrap();
    }
    let noted = "noted in the store, for all processes\n";
    assert_eq!(run(&["invalidate", &url, "--tag", "one"]).ok(), noted);
    let again = Region::from_url(&url).unwrap();
    assert_eq!(
        [again.get::<i32>("a").unwrap(), again.get::<i32>("b").unwrap()].map(|value| value.is_some()),
        [false, true]
    );
    assert_eq!(field(&run(&["inspect", &url, "a"]).ok(), "state"), "missing: invalidated");
    assert_eq!(run(&["invalidate", &url, "--key", "b", "--soft"]).ok(), noted);
    assert_eq!(field(&run(&["inspect", &url, "b"]).ok(), "state"), "stale: invalidated");
    // The one that ran all the time sees it as soon as it has looked.
    let mut looks = 0;
    while region.get::<i32>("a").unwrap().is_some() {
        looks += 1;
        assert!(looks < 1_000, "it never looked");
        run(&["inspect", &url, "a"]).ok();
    }
}

#[test]
fn what_is_wrong_is_said() {
    let nowhere = format!("file://{}", folder("nowhere").join("missing").display());
    for (arguments, parts) in [
        (&["inspect", "memory://", "key"][..], &["the store `memory`", "each process has its own"][..]),
        (&["inspect", "nothing://", "key"], &["backend `nothing`: unknown backend"]),
        (&["locks", &nowhere], &["file open", "there is no such folder", "create=true"]),
        (&["inspect", "redis://ada:hunter2@127.0.0.1:1/0", "key"], &["redis"]),
        (&["inspect", "file:///tmp?colour=red", "key"], &["`colour` is unknown"]),
    ] {
        let ran = run(arguments);
        ran.fails_with(parts);
        assert!(!ran.err.contains("hunter2") && !ran.err.contains("ada"), "{ran:?}");
    }
    assert!(!folder("nowhere").join("missing").exists());
    let output = dogpile(&["invalidate", &nowhere]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("--key <KEY>"), "one of four is needed");
}

/// In Redis a lock has a lease, and tells when it ends.
#[test]
fn redis_tells_the_same() {
    let server = servers::Redis::start();
    let url = format!("{}?prefix=pages:&codec=json&fresh=1h", server.url());
    let region = Region::from_url(&url).unwrap();
    let made = region.get_or_create("/", || {
        let out = run(&["locks", &url]).ok();
        assert!(out.starts_with("pages:/: held by ") && out.ends_with("\n1 lock is held\n"), "{out}");
        assert!(out.contains(", ends in ") && out.contains("s unless it is renewed"), "{out}");
        let told = field(&run(&["inspect", &url, "/"]).ok(), "lock");
        assert!(told.starts_with("held by ") && told.contains(", ends in "), "{told}");
        String::from("hello")
    });
    assert_eq!(*made.unwrap(), "hello");
    let out = run(&["inspect", &url, "/", "--value"]).ok();
    assert_eq!(
        [field(&out, "store"), field(&out, "lock"), field(&out, "value")],
        ["redis", "free", r#""hello""#]
    );
    assert_eq!(run(&["invalidate", &url, "--key", "/"]).ok(), "deleted\n");
    assert_eq!(region.get::<String>("/").unwrap(), None);
    region.set("/", String::from("again")).unwrap();
    assert_eq!(run(&["invalidate", &url, "--prefix", "/"]).ok(), "taken out of the store\n");
    assert_eq!(region.get::<String>("/").unwrap(), None);
}
