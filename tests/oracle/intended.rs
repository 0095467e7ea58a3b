//! Where we differ from the Python packages on purpose.

use super::Row;
use serde_json::{Value, json};

pub(crate) struct Intended {
    pub(crate) id: &'static str,
    /// What we do instead, and why.
    pub(crate) reason: &'static str,
    /// The rows in which it shows.
    pub(crate) covers: fn(&Row) -> bool,
}

/// In the order of the packages, and of their methods.
pub(crate) const INTENDED: &[Intended] = &[
    Intended {
        id: "deadline",
        reason: "At exactly its deadline a value is expired, in every cache here; in dogpile.cache right after it. So zero \
                 is always stale.",
        covers: |row| {
            // What another makes anew is served by both.
            let is_served = |key| row.is_locked(key) && row.method.starts_with("get_or_create");
            row.is_dogpile()
                && row.reads()
                && row.keys().any(|key| row.is_at_deadline(key) && !is_served(key))
        },
    },
    Intended {
        id: "never",
        reason: "-1 is never for all methods; in dogpile.cache `get` and its kin then return nothing at all.",
        covers: |row| {
            row.is_dogpile()
                && row.life() == Some(-1.0)
                && matches!(row.method.as_str(), "get" | "get_multi" | "get_value_metadata")
                && row.keys().any(|key| matches!(row.state(key), "fresh" | "none" | "stale" | "deadline"))
        },
    },
    Intended {
        id: "soft-without-end",
        reason: "A soft invalidation needs no expiration time; dogpile.cache raises, in some cases after the creator has run.",
        covers: |row| {
            row.is_dogpile()
                && row.method.starts_with("get_or_create")
                && row.life().is_none_or(|life| life == -1.0)
                && row.keys().any(|key| matches!(row.state(key), "soft" | "hard, then soft"))
        },
    },
    Intended {
        id: "hard-stays",
        reason: "A later soft invalidation does not weaken a hard one: what was invalidated for good is not served again, \
                 not even while it is made anew.",
        covers: |row| {
            let creates = row.method == "get_or_create" && row.state("k") == "hard, then soft";
            let is_softened = row.method == "invalidate soft"
                && matches!(row.state("k"), "hard" | "soft, then hard" | "hard, then soft");
            let is_being_made = row.is_locked("k") || row.during() == Some("get_or_create");
            creates && (is_being_made || row.settings.contains_key("runner")) || is_softened && is_being_made
        },
    },
    Intended {
        id: "unreadable",
        reason: "What can't be read is missing, whatever is wrong with it, and made anew. dogpile.cache does so only where the \
                 deserializer raises its own exception; of anything else, and from cachetory, the caller gets the exception.",
        covers: |row| {
            let is_unread = match row.state("k") {
                "undecodable" if row.is_dogpile() => row.settings.contains_key("deserializer"),
                "undecodable" => {
                    !row.arguments.contains_key("then")
                        || row.theirs("then") == json!({"raises": "JSONDecodeError"})
                }
                "malformed" => true,
                _ => false,
            };
            is_unread
                && (matches!(
                    row.method.as_str(),
                    "get" | "getitem" | "get_value_metadata" | "get_or_create" | "cached"
                ) || row.arguments.contains_key("if_not_exists")
                    || row.theirs("then") == json!({"raises": "JSONDecodeError"}))
        },
    },
    Intended {
        id: "other-version",
        reason: "A value of another version is missing for all methods; in dogpile.cache `get` and its kin return it.",
        covers: |row| {
            matches!(row.method.as_str(), "get" | "get_value_metadata")
                && row.state("k") == "other version"
                && row.theirs("result") != json!([])
        },
    },
    Intended {
        id: "late-write",
        reason: "What is set, deleted or invalidated while a value is made wins over it: the value goes to its callers, and is \
                 not stored, or is stored as invalid. In both packages it is stored as if nothing had been.",
        covers: |row| {
            let is_kept =
                row.arguments.get("if_not_exists") == Some(&Value::Bool(true)) && row.during() == Some("set");
            row.stores()
                && !is_kept
                && matches!(row.during(), Some("set" | "delete" | "invalidate hard" | "invalidate soft"))
        },
    },
    Intended {
        id: "asked-after",
        reason: "Who asks after an invalidation does not wait for a value that was begun before it, and has a newer one made; \
                 in dogpile.cache he waits for it, and has it.",
        covers: |row| row.method == "invalidate hard" && row.stores() && row.is_locked("k"),
    },
    Intended {
        id: "should-cache",
        reason: "`should_cache` is asked in the background and by a refresh, too.",
        covers: |row| {
            let is_refused = row.arguments.get("should_cache") == Some(&Value::Bool(false));
            let is_in_background =
                row.settings.contains_key("runner") && matches!(row.state("k"), "stale" | "soft");
            is_refused && row.stores() && (is_in_background || row.method == "refresh")
        },
    },
    Intended {
        id: "short-batch",
        reason: "A creator that returns too few values gets an error, and nothing is stored; in dogpile.cache the last keys \
                 silently have none.",
        covers: |row| row.arguments.contains_key("short") && row.theirs("calls") != Value::Null,
    },
    Intended {
        id: "own-first",
        reason: "A batch makes and stores what is its own to make, and then waits for what others are making, so batches can't \
                 wait in a circle; in dogpile.cache it waits with the locks of its other keys in hand.",
        covers: |row| {
            row.method == "get_or_create_multi"
                && row.theirs("result") == json!({"raises": "waits"})
                && row.keys().any(|key| !row.is_locked(key) && !matches!(row.state(key), "fresh" | "none"))
        },
    },
    Intended {
        id: "order-of-keys",
        reason: "A batch's creator gets its keys in the order in which they were asked for, each once; in dogpile.cache sorted.",
        covers: |row| {
            let calls = row.theirs("calls");
            row.method == "get_or_create_multi"
                && calls[0].as_array().is_some_and(|theirs| {
                    let first = |key: &Value| row.keys().position(|asked| *key == asked);
                    !theirs.is_sorted_by_key(first)
                })
        },
    },
    Intended {
        id: "locked-if-mangled",
        reason: "`key_is_locked` tells the truth with a mangler; in dogpile.cache it looks for the unmangled key.",
        covers: |row| row.settings.contains_key("mangler") && row.during() == Some("key_is_locked"),
    },
    Intended {
        id: "null-shares",
        reason: "With the null backend callers share a creation as with any other, so that a cache that is switched off does \
                 not flood what is behind it. The key is locked meanwhile, and asking for it from its own creator is an error.",
        covers: |row| {
            let is_locked = row.is_locked("k")
                && (matches!(row.method.as_str(), "get_or_create" | "refresh" | "key_is_locked")
                    || row.method == "invalidate soft" && row.arguments.contains_key("then"));
            row.is_dogpile()
                && !row.stores()
                && (is_locked || matches!(row.during(), Some("key_is_locked" | "get_or_create")))
        },
    },
    Intended {
        id: "shared-error",
        reason: "All who wait for a creation share its error, after one run; in dogpile.cache each then runs its own creator, one \
                 after the other.",
        covers: |row| row.settings.get("other") == Some(&json!("raised")),
    },
    Intended {
        id: "shared-unstored",
        reason: "All who wait get a value that is not to be stored, too; in dogpile.cache each then makes his own.",
        covers: |row| row.settings.get("other") == Some(&json!("made, and not to be stored")),
    },
    Intended {
        id: "refresh-joins",
        reason: "A refresh waits for whoever makes the value already, and returns that; in dogpile.cache it makes another, without \
                 the lock.",
        covers: |row| row.method == "refresh" && row.stores() && row.is_locked("k"),
    },
    Intended {
        id: "future",
        reason: "A value from the future, by another machine's clock, is of age zero, not less.",
        covers: |row| {
            row.state("k") == "from the future"
                && (row.method == "get_value_metadata"
                    || matches!(row.method.as_str(), "get" | "get_or_create") && row.life() == Some(0.0))
        },
    },
    Intended {
        id: "clock-put-back",
        reason: "Invalidation does not depend on the time of day: in dogpile.cache one after the clock was put back does nothing.",
        covers: |row| row.state("k") == "clock put back",
    },
    Intended {
        id: "sub-second",
        reason: "Times are as short as they are said to be; dogpile.cache cuts a `timedelta` to whole seconds.",
        covers: |row| row.settings.contains_key("timedelta"),
    },
    Intended {
        id: "not-configured",
        reason: "All methods tell that the region is not configured; of dogpile.cache's `get_or_create` it is an AttributeError.",
        covers: |row| row.settings.contains_key("configured") && row.method == "get_or_create",
    },
    Intended {
        id: "actual-backend",
        reason: "`actual_backend` is that of now; dogpile.cache remembers the one from before it was replaced.",
        covers: |row| row.arguments.get("replaced") == Some(&Value::Bool(true)),
    },
    Intended {
        id: "if-absent",
        reason: "An expired value is no obstacle to storing one if there is none.",
        covers: |row| {
            row.method == "set" && row.arguments.contains_key("if_not_exists") && row.has_expired("k")
        },
    },
    Intended {
        id: "deleted-expired",
        reason: "What had expired was not there, so `delete` says no.",
        covers: |row| matches!(row.method.as_str(), "delete" | "delitem" | "purge") && row.has_expired("k"),
    },
    Intended {
        id: "prefix-of-many",
        reason: "`get_multi` reads keys with the prefix, as all others do; cachetory reads them without, and finds nothing.",
        covers: |row| {
            row.method == "get_many"
                && row.stores()
                && row.settings["prefix"] != ""
                && row.keys().any(|key| matches!(row.state(key), "fresh" | "none"))
        },
    },
    Intended {
        id: "clear-own",
        reason: "`clear` takes the region's own values out, by its prefix; cachetory all that the store has.",
        covers: |row| row.method == "clear" && row.settings.contains_key("other"),
    },
    Intended {
        id: "none-is-a-value",
        reason: "A cached `None` is a value for tasks, too; cachetory's `cached` for coroutines makes it anew each time.",
        covers: |row| {
            row.settings.contains_key("tasks")
                && row.method == "cached"
                && row.state("k") == "none"
                && row.stores()
        },
    },
    Intended {
        id: "fresh-of-a-call",
        reason: "A call's policy says how old a value may be for this call, also one that is there: dogpile.cache's \
                 `expiration_time`. cachetory's `time_to_live` is only for what the call stores, for which `set_with` has `ttl`.",
        covers: |row| {
            row.method == "cached"
                && row.stores()
                && match row.arguments.get("ttl").and_then(Value::as_f64) {
                    Some(0.0) => matches!(row.state("k"), "for ever" | "fresh" | "none"),
                    // In cachetory's form bytes do not tell how old they are.
                    Some(_) => row.state("k") == "for ever" && row.backend == "memory",
                    None => false,
                }
        },
    },
];

/// How the packages' calls are written here, and where they are found.
pub(crate) const CALLS: &[(&str, &str, &str)] = &[
    ("dogpile.cache", "get", "`get`, `get_with`"),
    ("dogpile.cache", "get_value_metadata", "`get_value_metadata`, `get_value_metadata_with`"),
    ("dogpile.cache", "get_multi", "`get_multi`, `get_multi_with`"),
    ("dogpile.cache", "get_or_create", "`try_get_or_create`; with a runner `try_get_or_create_detached`"),
    ("dogpile.cache", "get_or_create_multi", "`try_get_or_create_multi`"),
    ("dogpile.cache", "refresh", "`try_refresh`"),
    ("dogpile.cache", "set", "`set`"),
    ("dogpile.cache", "set_multi", "`set_multi`"),
    ("dogpile.cache", "delete", "`delete`"),
    ("dogpile.cache", "delete_multi", "`delete_multi`"),
    ("dogpile.cache", "invalidate hard", "`invalidate(Scope::Region, How::Hard)`"),
    ("dogpile.cache", "invalidate soft", "`invalidate(Scope::Region, How::Soft)`"),
    ("dogpile.cache", "key_is_locked", "`key_is_locked`"),
    ("dogpile.cache", "is_configured", "`is_configured`"),
    ("dogpile.cache", "configure", "`configure`"),
    ("dogpile.cache", "actual_backend", "`actual_backend`"),
    ("cachetory", "get", "`get`"),
    ("cachetory", "getitem", "`get`; `None` where a `KeyError` is raised"),
    ("cachetory", "get_many", "`get_multi`"),
    ("cachetory", "set", "`set_with`"),
    ("cachetory", "setitem", "`set`"),
    ("cachetory", "set_many", "`set_multi`"),
    ("cachetory", "expire_in", "`expire_in`"),
    ("cachetory", "delete", "`delete`"),
    ("cachetory", "delitem", "`delete`; false where a `KeyError` is raised"),
    ("cachetory", "delete_many", "`delete_multi`"),
    ("cachetory", "clear", "`clear`"),
    ("cachetory", "cached", "`with(&policy).try_get_or_create`"),
    ("cachetory", "purge", "`delete`"),
];

impl Row {
    fn is_dogpile(&self) -> bool {
        self.package == "dogpile.cache"
    }

    fn stores(&self) -> bool {
        self.backend != "null"
    }

    fn state(&self, key: &str) -> &str {
        if self.stores() { self.states.get(key).map_or("absent", String::as_str) } else { "absent" }
    }

    /// The keys that the call is for.
    fn keys(&self) -> impl Iterator<Item = &str> {
        let many = self.arguments.get("keys").and_then(Value::as_array);
        let one = many.is_none().then_some("k");
        many.into_iter().flatten().filter_map(Value::as_str).chain(one)
    }

    /// Whether somebody else makes a key's value.
    fn is_locked(&self, key: &str) -> bool {
        let locked = self.settings.get("locked").and_then(Value::as_array);
        locked.is_some_and(|locked| locked.iter().any(|locked| locked == key))
    }

    fn during(&self) -> Option<&str> {
        self.arguments.get("during").and_then(Value::as_str)
    }

    /// How long values are fresh for this call.
    fn life(&self) -> Option<f64> {
        self.arguments.get("expiration_time").or(self.settings.get("expiration_time")).and_then(Value::as_f64)
    }

    fn reads(&self) -> bool {
        self.method.starts_with("get") && !self.arguments.contains_key("ignore_expiration")
    }

    fn is_at_deadline(&self, key: &str) -> bool {
        let age = match self.state(key) {
            "just set" => 0.0,
            "deadline" => 60.0,
            _ => return false,
        };
        self.life() == Some(age)
    }

    /// Of cachetory's values: whether its time is over.
    fn has_expired(&self, key: &str) -> bool {
        !self.is_dogpile() && matches!(self.state(key), "deadline" | "expired")
    }

    /// What the package has come to.
    fn theirs(&self, what: &str) -> Value {
        self.outcome.get(what).cloned().unwrap_or_default()
    }
}
