//! Configuration of regions: by URL, by map as dogpile.cache has it, by serde. What is unknown or malformed is named, what is
//! secret is not shown.
#![cfg(feature = "region")]

use dogpile::backend::{Address, Arguments, Setting};
use dogpile::region::{ManglerConfig, OnBackendError, RegionConfig};
use dogpile::{Early, Error, ErrorKind};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn url(url: &str) -> RegionConfig {
    RegionConfig::from_url(url).unwrap()
}

fn map(pairs: &[(&str, &str)]) -> Result<RegionConfig, Error> {
    RegionConfig::from_map(pairs.iter().copied(), "")
}

/// The message without what every one begins with.
fn detail(error: &Error) -> String {
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string().split_once(": bad configuration: ").expect("a message with a detail").1.to_owned()
}

/// What it reads when it is printed.
fn through_json(config: &RegionConfig) -> RegionConfig {
    serde_json::from_str(&serde_json::to_string(config).unwrap()).unwrap()
}

fn through_toml(config: &RegionConfig) -> RegionConfig {
    toml::from_str(&toml::to_string(config).unwrap()).unwrap()
}

#[test]
fn a_url_has_the_regions_settings_and_the_backends() {
    let config = url(
        "memory://?max_entries=1000&fresh=5m&stale=1h30m&stale_if_error=1day&wait=2.5&soft_timeout=100ms&error_ttl=0\
         &jitter=0.1&early=xfetch&max_creations=8&prefix=app%3A&codec=json%2Bzstd&mangler=length:200\
         &on_backend_error=fail&replace_existing_backend=true&wrap=a,b",
    );
    assert_eq!(config.backend.as_ref().unwrap().scheme(), "memory");
    assert_eq!(config.fresh, Some(300 * SECOND));
    assert_eq!(config.stale, Some(5400 * SECOND));
    assert_eq!(config.stale_if_error, Some(86_400 * SECOND));
    assert_eq!(config.wait, Some(Duration::from_millis(2500)));
    assert_eq!(config.soft_timeout, Some(Duration::from_millis(100)));
    assert_eq!(config.error_ttl, Some(Duration::ZERO));
    assert_eq!(config.jitter, Some(0.1));
    assert_eq!(config.early, Some(Early::XFetch { beta: 1.0 }));
    assert_eq!(config.max_creations.unwrap().get(), 8);
    assert_eq!(config.prefix.as_deref(), Some("app:"));
    assert_eq!(config.codec.as_deref(), Some("json+zstd://"));
    assert_eq!(config.mangler, Some(ManglerConfig::Length(200)));
    assert_eq!(config.on_backend_error, Some(OnBackendError::Fail));
    assert!(config.replace_existing_backend);
    assert_eq!(config.wrap, ["a", "b"]);
    assert_eq!(config.arguments.keys().collect::<Vec<_>>(), ["max_entries"]);
    assert_eq!(config.arguments["max_entries"].as_int(), Some(1000));
    assert_eq!(through_json(&config), config);
    assert_eq!(through_toml(&config), config);
}

#[test]
fn nothing_is_said_that_was_not_given() {
    let config = url("null://");
    let mut expected = RegionConfig::default();
    expected.backend = Some("null://".parse().unwrap());
    assert_eq!(config, expected);
    assert_eq!(serde_json::to_string(&config).unwrap(), r#"{"backend":"null://"}"#);
    assert_eq!(through_json(&RegionConfig::default()), RegionConfig::default());
}

#[test]
fn a_map_is_read_under_its_prefix_as_dogpile_does() {
    let settings = HashMap::from([
        ("cache.local.backend", "dogpile.cache.memory"),
        ("cache.local.expiration_time", " 3600 "),
        ("cache.local.arguments.max_entries", "5"),
        ("cache.local.arguments.name", "None"),
        ("cache.local.replace_existing_backend", "TRUE"),
        ("cache.memcached.backend", "dogpile.cache.pylibmc"),
        ("cache.memcached.nonsense", "1"),
    ]);
    let config = RegionConfig::from_map(settings, "cache.local.").unwrap();
    assert_eq!(config.backend.as_ref().unwrap().scheme(), "dogpile.cache.memory");
    assert_eq!(config.fresh, Some(3600 * SECOND));
    assert_eq!(config.arguments.keys().collect::<Vec<_>>(), ["max_entries"]);
    assert!(config.replace_existing_backend);
    assert_eq!(through_json(&config), config);
}

#[test]
fn values_that_are_no_texts_do_as_well() {
    let config = RegionConfig::from_map(
        [
            ("backend", Setting::from("memory")),
            ("expiration_time", 60.into()),
            ("stale", 0.5.into()),
            ("wait", (7 * SECOND).into()),
            ("replace_existing_backend", true.into()),
            ("arguments.max_entries", 1000_u64.into()),
        ],
        "",
    )
    .unwrap();
    assert_eq!(config.fresh, Some(60 * SECOND));
    assert_eq!(config.stale, Some(SECOND / 2));
    assert_eq!(config.wait, Some(7 * SECOND));
    assert!(config.replace_existing_backend);
    assert_eq!(through_json(&config), config);
}

/// `scripts/config_golden.py` has recorded what dogpile.cache's `coerce_string_conf` makes of texts.
#[test]
fn texts_are_understood_as_dogpile_does() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/config.json")).unwrap();
    assert_eq!(golden["dogpile.cache"], "1.5.0");
    let cases = golden["texts"].as_array().unwrap();
    assert!(cases.len() > 300);
    for case in cases {
        let (text, kind) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        let config = map(&[("backend", "memory"), ("arguments.x", text)]).unwrap();
        let setting = config.arguments.get("x");
        let (int, float, truth) =
            setting.map_or((None, None, None), |of| (of.as_int(), of.as_float(), of.as_bool()));
        match (kind, case[2].as_str()) {
            ("nothing", _) => assert!(setting.is_none(), "{text:?}"),
            ("bool", _) => assert_eq!((int, float, truth), (None, None, case[2].as_bool()), "{text:?}"),
            ("int", Some(value)) => {
                assert_eq!((int, truth), (Some(value.parse().unwrap()), None), "{text:?}");
                assert_eq!(float, Some(value.parse().unwrap()), "{text:?}");
            }
            // No setting is infinite.
            ("float", Some("infinite")) => assert_eq!((int, float, truth), (None, None, None), "{text:?}"),
            ("float", Some(value)) => {
                assert_eq!((int, float, truth), (None, Some(value.parse().unwrap()), None), "{text:?}");
            }
            ("text", Some(value)) => {
                assert_eq!((int, float, truth), (None, None, None), "{text:?}");
                assert_eq!(setting.unwrap().as_text().as_deref(), Some(value), "{text:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// dogpile.cache makes 7 of it.
#[test]
fn a_password_of_digits_stays_what_it_is() {
    let config = map(&[("backend", "own"), ("arguments.password", "007")]).unwrap();
    assert_eq!(config.arguments["password"].as_text().as_deref(), Some("007"));
}

#[test]
fn times_to_expire() {
    let fresh = |text| map(&[("backend", "memory"), ("expiration_time", text)]).map(|config| config.fresh);
    assert_eq!(fresh("-1").unwrap(), Some(Duration::MAX), "never");
    assert_eq!(fresh("-1.0").unwrap(), Some(Duration::MAX));
    assert_eq!(fresh("forever").unwrap(), Some(Duration::MAX));
    assert_eq!(fresh("None").unwrap(), None);
    assert_eq!(fresh("0").unwrap(), Some(Duration::ZERO), "stale at once");
    assert_eq!(fresh("0.5").unwrap(), Some(SECOND / 2), "half a second is not none, as it is in Python");
    assert_eq!(fresh("1e3").unwrap(), Some(1000 * SECOND));
    assert_eq!(fresh("1day").unwrap(), Some(86_400 * SECOND));
    for text in
        ["-2", "-0.5", "", "soon", "1e400", "1e30", "true", "5 parsecs", "-5m", "99999999999999999999999"]
    {
        let error = detail(&fresh(text).unwrap_err());
        assert_eq!(
            error,
            "`expiration_time`: expected a time: seconds, or a text as 5m, 1h 30m, 250ms or forever, or -1 for ever",
            "{text:?}"
        );
    }
    let never = map(&[("backend", "memory"), ("expiration_time", "-1"), ("stale", "forever")]).unwrap();
    assert_eq!(through_json(&never), never);
}

#[test]
fn what_is_unknown_is_named_with_what_is_not() {
    let error = detail(
        &RegionConfig::from_map([("cache.backend", "memory"), ("cache.stael", "1")], "cache.").unwrap_err(),
    );
    assert!(
        error.starts_with("`cache.stael`: unknown: accepted are backend, expiration_time, fresh, stale, "),
        "{error}"
    );
    let error = serde_json::from_str::<RegionConfig>(r#"{"stael": 1}"#).unwrap_err().to_string();
    assert!(error.contains("`stael`: unknown: accepted are backend, expiration_time,"), "{error}");
    let error = serde_json::from_str::<RegionConfig>(r#"{"stael": null}"#).unwrap_err().to_string();
    assert!(error.contains("`stael`: unknown"), "{error}");
    let error =
        toml::from_str::<RegionConfig>("backend = 'memory'\nkey_mangler = 'sha1'").unwrap_err().to_string();
    assert!(error.contains("`key_mangler`: unknown (here it is mangler)"), "{error}");
    // A URL's unknown parameters are the backend's.
    let mut arguments = url("memory://?stael=1h").backend_arguments().unwrap();
    arguments.take_u64("max_entries").unwrap();
    let error = detail(&arguments.finish().unwrap_err());
    assert!(
        error.starts_with("`stael` is unknown: accepted are max_entries; of a region: fresh, stale, "),
        "{error}"
    );
}

#[test]
fn malformed_settings_are_named() {
    let cases = [
        ("stale", "long", "expected a time"),
        ("wait", "-1", "expected a time"),
        ("jitter", "1", "expected a number from 0 to below 1"),
        ("jitter", "-0.1", "expected a number from 0 to below 1"),
        ("jitter", "some", "expected a number from 0 to below 1"),
        ("early", "1", "expected a part between 0 and 1"),
        ("early", "xfetch:0", "expected a part between 0 and 1"),
        ("early", "xfetch2", "expected a part between 0 and 1"),
        ("max_creations", "0", "expected a whole number from 1 on"),
        ("max_creations", "1.5", "expected a whole number from 1 on"),
        ("mangler", "md5", "expected none, sha1 or length:200"),
        ("mangler", "length:", "expected none, sha1 or length:200"),
        ("mangler", "length:-1", "expected none, sha1 or length:200"),
        ("on_backend_error", "panic", "expected degrade or fail"),
        ("replace_existing_backend", "yes", "expected true or false"),
        ("codec", "json zstd", "there is a blank in it: in a URL's query a + is a blank, write %2B"),
        ("codec", "yaml", "malformed"),
        ("codec", "json?level=3", "malformed"),
        ("arguments", "max_entries", "expected a map, or names as `arguments.max_entries`"),
        ("arguments.", "1", "unknown"),
        ("backend", "", "empty"),
        ("backend", "None", "missing"),
    ];
    for (name, value, expected) in cases {
        let mut pairs = vec![(name, value)];
        if name != "backend" {
            pairs.push(("backend", "memory"));
        }
        let error = detail(&map(&pairs).unwrap_err());
        assert!(error.starts_with(&format!("`{name}`: {expected}")), "{name}={value}: {error}");
    }
    let lists = serde_json::from_str::<RegionConfig>(r#"{"wrap": [["a"]]}"#).unwrap_err().to_string();
    assert!(lists.contains("`wrap`: expected a list of proxies' names"), "{lists}");
    assert_eq!(
        detail(&map(&[("fresh", "5")]).unwrap_err()),
        "`backend`: missing: give a name, as memory, or a URL"
    );
}

#[test]
fn malformed_urls_name_the_part() {
    let cases = [
        ("", "`url`: empty"),
        ("://x", "`url`: the scheme is malformed"),
        ("1x://", "`url`: the scheme is malformed"),
        ("m/x", "`url`: neither a backend's name nor a URL"),
        ("memory:", "`url`: after the scheme stands no ://"),
        ("memory:?max_entries=1", "`url`: after the scheme stands no ://"),
        ("redis://h:port", "`url`: the port is malformed"),
        ("redis://h:65536", "`url`: the port is malformed"),
        ("redis://[::1", "`url`: the host is malformed"),
        ("redis://h^", "`url`: the host is malformed"),
        ("redis://u:p@", "`url`: the host is missing"),
        ("redis://a,b:port", "`url`: the port is malformed"),
        ("redis://a,,b", "`url`: the host is missing"),
        ("wss://a,b\\c,d", "`url`: there is a \\ in it: write %5C"),
        ("wss://a%2Cb", "`url`: there are several hosts: URLs of the web have one"),
        ("file://a//e:/", "`url`: the URL is another when it is read once more"),
        ("https://a,b", "`url`: there are several hosts: URLs of the web have one"),
        ("wss:a,b", "`url`: after the scheme stands no ://"),
        ("https:a?x=://b", "`url`: after the scheme stands no ://"),
        ("redis://u:p,w/d@a,b", "`url`: the port is malformed"),
        ("redis://h/%zz", "`url`: the path has a %"),
        ("redis://%ff@h", "`url`: the user name has a %"),
        ("redis://u:%f@h", "`url`: the password has a %"),
        ("memory://?stale=%", "`stale`: the value has a %"),
        ("memory://?x=%c3", "`x`: the value has a %"),
        ("memory://?=1", "`url`: the name of a parameter in the query is empty"),
        ("memory://?%=1", "`url`: the name of a parameter in the query is empty, or has a malformed %"),
        ("memory://?stale=1&stale=2", "`stale`: given twice"),
        ("memory://?x=1&x=1", "`x`: given twice"),
        ("memory://#fragment", "`url`: there is a fragment"),
        ("memory://?a b=1", "`url`: there is a blank, a line end"),
        ("mem\nory://", "`url`: there is a blank, a line end"),
        ("redis://u:1/word@host", "`url`: there is an @ behind the host"),
        (
            "redis://u:1?word@host",
            "`url`: the name of a parameter in the query is empty, or has a malformed %, or an @",
        ),
        ("memory://?backend=null", "`backend`: this is of maps"),
        ("memory://?arguments=1", "`arguments`: this is of maps"),
        (
            "memory://?fresh=1&expiration_time=1",
            "`expiration_time`: fresh and expiration_time are one setting",
        ),
    ];
    for (text, expected) in cases {
        let error = detail(&RegionConfig::from_url(text).unwrap_err());
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_codec_is_a_name_or_a_url() {
    let codec = |text: &str| map(&[("backend", "memory"), ("codec", text)]).unwrap().codec.unwrap();
    assert_eq!(codec("json"), "json://");
    assert_eq!(codec("json+zstd?compression-level=3"), "json+zstd://?compression-level=3");
    assert_eq!(codec("json+zstd://?compression-level=3"), "json+zstd://?compression-level=3");
    let nested =
        url("memory://?codec=json%2Bzstd%3A%2F%2F%3Fcompression-level%3D3%26threshold%3D1KiB&stale=1");
    assert_eq!(nested.codec.as_deref(), Some("json+zstd://?compression-level=3&threshold=1KiB"));
    assert_eq!(nested.stale, Some(SECOND));
}

#[test]
fn what_is_given_twice_is_refused() {
    for json in [
        r#"{"backend": "memory://?stale=1", "stale": 1}"#,
        r#"{"stale": 1, "backend": "memory://?stale=1"}"#,
        r#"{"stale": 1, "stale": 1}"#,
        r#"{"backend": "memory", "backend": "memory"}"#,
        r#"{"fresh": 1, "expiration_time": 1}"#,
        r#"{"arguments": {"x": 1}, "arguments.x": 1}"#,
        r#"{"arguments": {"x": 1, "x": 1}}"#,
        r#"{"backend": "memory://?x=1", "arguments": {"x": 1}}"#,
    ] {
        let error = serde_json::from_str::<RegionConfig>(json).unwrap_err().to_string();
        assert!(error.contains("given twice") || error.contains("are one setting"), "{json}: {error}");
    }
}

#[test]
fn files_may_nest_or_not() {
    let nested: RegionConfig = toml::from_str(
        r#"
        backend = "memory"
        expiration_time = 300
        jitter = 0.25
        early = 0.8
        wrap = ["outer", "inner"]
        [arguments]
        max_weight = "64MiB"
        shards = 4
        deep = { list = [1, 2.5, "three", true] }
        "#,
    )
    .unwrap();
    assert_eq!(nested.early, Some(Early::Fraction(0.8)));
    assert_eq!(nested.wrap, ["outer", "inner"]);
    assert_eq!(nested.arguments["max_weight"].as_size(), Some(64 << 20));
    assert_eq!(nested.arguments["shards"].as_int(), Some(4));
    assert_eq!(through_toml(&nested), nested);
    assert_eq!(through_json(&nested), nested);
    let flat: RegionConfig =
        serde_json::from_str(r#"{"backend": "memory", "arguments.shards": 4, "stale": null, "wrap": "a"}"#)
            .unwrap();
    assert_eq!(flat.arguments["shards"].as_int(), Some(4));
    assert_eq!(flat.wrap, ["a"]);
}

/// As crates hand environments to serde: texts only.
#[test]
fn an_environment_does_as_well() {
    let environment =
        [("CACHE_BACKEND", "memory://?max_entries=10"), ("CACHE_EXPIRATION_TIME", "5m"), ("PATH", "/bin")];
    let lower = environment.map(|(name, value)| (name.to_lowercase(), value));
    let config = RegionConfig::from_map(lower, "cache_").unwrap();
    assert_eq!(config.fresh, Some(300 * SECOND));
    assert_eq!(config.arguments["max_entries"].as_int(), Some(10));

    let texts =
        HashMap::from([("backend", "memory"), ("jitter", "0.5"), ("replace_existing_backend", "True")]);
    let config: RegionConfig = serde_json::from_value(serde_json::to_value(texts).unwrap()).unwrap();
    assert_eq!((config.jitter, config.replace_existing_backend), (Some(0.5), true));
}

#[test]
fn secrets_are_not_shown() {
    const SECRET: &str = "hunter2";
    let config = url("redis://hunter2:hunter2@cache.example:6379/0?fresh=5m&token=hunter2");
    let address = config.backend.clone().unwrap();
    let arguments = config.backend_arguments().unwrap();
    for shown in [
        format!("{config:?}"),
        format!("{config:#?}"),
        format!("{address:?}"),
        address.to_string(),
        format!("{arguments:?}"),
        format!("{:?}", config.arguments),
    ] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    assert_eq!(address.to_string(), "redis://cache.example:6379/0");
    assert!(format!("{config:?}").contains("redis://cache.example:6379/0"));

    // Nor in errors: whatever is wrong with it.
    for text in [
        "redis://hunter2:hunter2@host:port",
        "redis://hunter2:hunter2@",
        "redis://hunter2:hunter2@[::1",
        "redis://hunter2:hunter2@h ost",
        "redis://hunter2:hunter2@h/%",
        "redis://hunter2:%hunter2@h",
        "redis://hunter2:hunter2@h?x=%hunter2",
        "redis://hunter2:hunter2@h?stale=hunter2",
        "redis://hunter2:hunter2@h?mangler=hunter2",
        "redis://hunter2:hunter2@h#hunter2",
        // Passwords that should have been escaped.
        "redis://u:12/hunter2@h",
        "redis://u:12?hunter2@h",
        "redis://u:12?hunter2@h=1",
        "redis://u:12#hunter2@h",
        "redis://u:hunter2/x@h",
        "hunter2/hunter2",
        ":hunter2",
        "1hunter2:x",
    ] {
        let error = RegionConfig::from_url(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{text}: {error:?}");
    }
    for name in [
        "stale",
        "early",
        "mangler",
        "max_creations",
        "on_backend_error",
        "replace_existing_backend",
        "jitter",
    ] {
        let error = map(&[("backend", "memory"), (name, SECRET)]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
    }
    let mut arguments = Arguments::from_url("redis://hunter2:hunter2@h?size=hunter2&left=hunter2").unwrap();
    let errors = [
        arguments.take_size("size").unwrap_err(),
        Arguments::from_url("redis://hunter2:hunter2@h?left=hunter2").unwrap().finish().unwrap_err(),
        Arguments::from_url("own://?left=hunter2").unwrap().finish().unwrap_err(),
    ];
    for error in errors {
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
    }
}

#[test]
fn arguments_are_taken_or_refused() {
    let mut arguments =
        Arguments::from_url("own://ada:lo%76e@host:7/a%20b?n=5&f=1.5&b=true&t=5m&s=64KiB&w=a+b").unwrap();
    assert_eq!(arguments.scheme(), "own");
    assert_eq!(arguments.take_u64("n").unwrap(), Some(5));
    assert_eq!(arguments.take_f64("f").unwrap(), Some(1.5));
    assert_eq!(arguments.take_bool("b").unwrap(), Some(true));
    assert_eq!(arguments.take_duration("t").unwrap(), Some(300 * SECOND));
    assert_eq!(arguments.take_size("s").unwrap(), Some(65_536));
    assert_eq!(arguments.take_str("w").unwrap().as_deref(), Some("a b"));
    assert_eq!(arguments.take_str("absent").unwrap(), None);
    assert_eq!(arguments.take_host().as_deref(), Some("host"));
    assert_eq!(arguments.take_port(), Some(7));
    assert_eq!(arguments.take_path().as_deref(), Some("/a b"));
    assert_eq!(arguments.take_user().as_deref(), Some("ada"));
    assert_eq!(arguments.take_password().as_deref(), Some("love"));
    arguments.finish().unwrap();

    for (text, expected) in [
        ("own://host", "it has no host"),
        ("own://host:1", "it has no host"),
        ("own:///path", "it has no path"),
        ("own://?left=1", "`left` is unknown: this backend has no settings"),
        (
            "own://?lock_sleep=1",
            "`lock_sleep` is unknown (in dogpile.cache it is not; here whoever waits is woken)",
        ),
    ] {
        let error = detail(&Arguments::from_url(text).unwrap().finish().unwrap_err());
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    for (text, expected) in [
        ("own://?n=-1", "a whole number"),
        ("own://?n=1.5", "a whole number"),
        ("own://?n=", "a whole number"),
    ] {
        let error = detail(&Arguments::from_url(text).unwrap().take_u64("n").unwrap_err());
        assert!(error.starts_with(&format!("`n`: expected {expected}")), "{text}: {error}");
    }
}

#[test]
fn sizes() {
    let size = |text: &str| Setting::from(text).as_size();
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("5B", 5),
        ("5 kB", 5000),
        ("5KiB", 5120),
        ("64MiB", 64 << 20),
        (" 64 mib ", 64 << 20),
        ("1GB", 1_000_000_000),
        ("2TiB", 2 << 40),
        ("16777215TiB", 16_777_215 << 40),
    ] {
        assert_eq!(size(text), Some(bytes), "{text}");
    }
    for text in ["", "MiB", "1.5GB", "-1", "5 parsecs", "5k", "16777216TiB", "99999999999999999999", "5MiBx"]
    {
        assert_eq!(size(text), None, "{text}");
    }
    assert_eq!(Setting::from(5_u64).as_size(), Some(5));
    assert_eq!(Setting::from(-5).as_size(), None);
}

#[test]
fn addresses() {
    let address: Address = "memory".parse().unwrap();
    assert_eq!(address.to_string(), "memory");
    assert_eq!("MEMORY://".parse::<Address>().unwrap().scheme(), "memory", "a URL's scheme has no case");
    let error = detail(&"memory://?x=1".parse::<Address>().unwrap_err());
    assert_eq!(error, "`backend`: a URL with a query is for RegionConfig::from_url");

    let several = "shared://ada:sec,ret@a:1,b,[::1]:2/path";
    let address: Address = several.parse().unwrap();
    assert_eq!(address.to_string(), "shared://a:1,b,[::1]:2/path");
    assert_eq!(serde_json::to_string(&address).unwrap(), format!("\"{several}\""), "all of it");
    let mut arguments = Arguments::new(address.clone(), BTreeMap::new());
    let hosts = [("a", Some(1)), ("b", None), ("[::1]", Some(2))];
    assert_eq!(arguments.take_hosts(), hosts.map(|(host, port)| (host.to_owned(), port)));
    let secrets = (arguments.take_user().unwrap(), arguments.take_password().unwrap());
    assert_eq!(secrets, ("ada".to_owned(), "sec,ret".to_owned()));
    arguments.take_path();
    arguments.finish().unwrap();
    let mut one = Arguments::new("shared://a,b".parse().unwrap(), BTreeMap::new());
    assert_eq!(one.take_host().as_deref(), Some("a"));
    assert_eq!(detail(&one.finish().unwrap_err()), "it has no second host: write the URL without one");
}

/// The chapter's table has a row for each setting, and no other.
#[test]
fn the_chapter_has_all_settings() {
    let chapter = include_str!("../docs/configuration.md");
    let table = chapter.split("## ").find(|part| part.starts_with("Settings of a region")).unwrap();
    let documented: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|row| row.split(" | ").next().unwrap().split(", "))
        .map(|name| name.trim_matches('`'))
        .collect();
    let error = detail(&map(&[("nonsense", "1")]).unwrap_err());
    let accepted: BTreeSet<&str> = error.split_once("accepted are ").unwrap().1.split(", ").collect();
    assert_eq!(documented, accepted);
}
