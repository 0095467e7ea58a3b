//! Configurations from URLs, maps and JSON: none panics, what is read is equal when it is printed and read again, and what is
//! secret is in no `Debug` and in no error.
#![no_main]

use dogpile::backend::Setting;
use dogpile::region::RegionConfig;
use libfuzzer_sys::fuzz_target;

#[derive(arbitrary::Arbitrary, Debug)]
enum Input<'a> {
    Url(&'a str),
    /// Pieces of a URL around a password, which begins with `odd`, and a setting that is secret.
    Pieces {
        scheme: &'a str,
        user: &'a str,
        odd: &'a str,
        host: &'a str,
        path: &'a str,
        query: &'a str,
    },
    Map {
        prefix: &'a str,
        pairs: Vec<(&'a str, &'a str)>,
    },
    Json(&'a str),
}

/// In small letters: names of codecs and hosts have no case.
const SECRET: &str = "hunter2-is-the-word-that-nobody-says";

/// All that one may ask of a configuration.
fn check(config: &RegionConfig) {
    let json = serde_json::to_string(config).expect("it is printed");
    let again: RegionConfig = serde_json::from_str(&json).expect("it is read again");
    assert_eq!(&again, config, "{json}");
    let names: Vec<String> = config.arguments.keys().cloned().collect();
    for name in &names {
        typed(&config.arguments[name]);
    }
    if let Some(mut arguments) = config.backend_arguments() {
        let found = arguments.take_str("x");
        assert_eq!(
            found.is_ok_and(|found| found.is_some()),
            config.arguments.get("x").is_some_and(|x| x.as_text().is_some())
        );
        let rest = names.iter().filter(|name| *name != "x").count();
        let has_place = [
            arguments.take_host().is_some(),
            arguments.take_port().is_some(),
            arguments.take_path().is_some(),
            // Several hosts, if there is a comma.
            !arguments.take_hosts().is_empty(),
        ];
        let (user, password) = (arguments.take_user(), arguments.take_password());
        let _ = (has_place, user, password);
        assert_eq!(arguments.finish().is_ok(), rest == 0, "what is left is refused");
    }
}

fn typed(setting: &Setting) {
    if let Some(time) = setting.as_duration() {
        assert_eq!(Setting::from(time).as_duration(), Some(time), "a time reads back");
    }
    if setting.as_int().is_some() {
        assert!(setting.as_float().is_some() && setting.as_bool().is_none());
    }
    let _ = setting.as_size();
}

/// Whether the fuzzer has said it itself.
fn is_out(pieces: &[&str]) -> bool {
    pieces.iter().any(|piece| piece.to_lowercase().contains(SECRET))
}

fn keeps_secrets(shown: &str) {
    assert!(!shown.contains(SECRET), "{shown}");
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Url(url) => match RegionConfig::from_url(url) {
            Ok(config) => check(&config),
            Err(error) => assert!(!error.to_string().is_empty()),
        },
        Input::Pieces { scheme, user, odd, host, path, query } => {
            if is_out(&[scheme, user, odd, host, path, query]) {
                return;
            }
            // A password may have signs that should have been escaped, but none that make it a setting's value.
            let ends = ['/', '?', '#', '\\'];
            if scheme.contains(ends)
                || user.contains(ends)
                || odd.contains('=')
                || host.contains('?')
                || path.contains('?')
            {
                return;
            }
            let url = format!("{scheme}://{user}:{odd}{SECRET}@{host}/{path}?token={SECRET}&{query}");
            match RegionConfig::from_url(&url) {
                Ok(config) => {
                    keeps_secrets(&format!("{config:?} {:?}", config.backend_arguments()));
                    if let Some(arguments) = config.backend_arguments() {
                        let error = arguments.finish().expect_err("nobody took the token");
                        keeps_secrets(&format!("{error} {error:?}"));
                    }
                    check(&config);
                }
                Err(error) => keeps_secrets(&format!("{error} {error:?}")),
            }
        }
        Input::Map { prefix, pairs } => {
            let read = |pairs: &[(&str, &str)]| RegionConfig::from_map(pairs.iter().copied(), prefix);
            if let Ok(config) = read(&pairs) {
                check(&config);
            }
            if is_out(&[prefix]) || pairs.iter().any(|(name, value)| is_out(&[name, value])) {
                return;
            }
            let token = format!("{prefix}arguments.token");
            let with_secret: Vec<(&str, &str)> =
                pairs.iter().copied().chain([(token.as_str(), SECRET)]).collect();
            match read(&with_secret) {
                Ok(config) => keeps_secrets(&format!("{config:?}")),
                Err(error) => keeps_secrets(&format!("{error} {error:?}")),
            }
        }
        Input::Json(json) => {
            if let Ok(config) = serde_json::from_str(json) {
                check(&config);
            }
        }
    }
});
