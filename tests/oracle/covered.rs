//! What the packages do that is not one call on one value, and which tests say that we do it, too.

/// Of which package, what it does, and the tests: a file below the crate's folder, and its functions.
pub(crate) const COVERED: &[(&str, &str, &[(&str, &[&str])])] = &[
    (
        "dogpile.cache",
        "a region is there before it is configured, and its methods say so",
        &[
            ("tests/region/configuring.rs", &["before_it_is_configured_each_method_says_so"]),
            ("tests/memoised_in_regions.rs", &["a_region_may_be_configured_later_but_not_never"]),
        ],
    ),
    (
        "dogpile.cache",
        "`configure`: twice, an unknown backend, settings that are no numbers",
        &[
            (
                "tests/region/configuring.rs",
                &["configured_twice_is_an_error", "replace_existing_backend_replaces_all_of_it"],
            ),
            ("tests/schemes.rs", &["backends_that_are_not_there_are_refused_with_what_to_do"]),
            ("tests/configuration.rs", &["malformed_settings_are_named"]),
        ],
    ),
    (
        "dogpile.cache",
        "a backend's mangler and serializer, unless the region has its own",
        &[(
            "tests/region/configuring.rs",
            &["what_the_backend_brings_is_the_default", "keys_are_mangled_and_prefixed"],
        )],
    ),
    (
        "dogpile.cache",
        "`configure_from_config`: prefix, numbers, booleans, `None`",
        &[(
            "tests/configuration.rs",
            &["a_map_is_read_under_its_prefix_as_dogpile_does", "texts_are_understood_as_dogpile_does"],
        )],
    ),
    (
        "dogpile.cache",
        "`wrap`: the first is the outermost, any operation can be overridden, `actual_backend` is behind all",
        &[(
            "tests/region/configuring.rs",
            &[
                "the_first_proxy_is_the_outermost",
                "a_proxy_overrides_any_operation",
                "the_actual_backend_is_behind_all_proxies",
            ],
        )],
    ),
    (
        "dogpile.cache",
        "the bytes of `CachedValue`: metadata, a bar, the payload",
        &[
            (
                "src/codec/tests/golden.rs",
                &["golden_entries_of_python_are_read", "golden_times_of_python_are_written"],
            ),
            ("src/codec/tests.rs", &["metadata_of_dogpile_cache_are_read_with_care"]),
        ],
    ),
    (
        "dogpile.cache",
        "the lock: of all who miss one creates and the others wait; of all who find a stale value one creates",
        &[(
            "tests/region/creating.rs",
            &["missing_one_leads_and_all_wait", "stale_is_made_once", "stale_is_served_while_another_makes"],
        )],
    ),
    (
        "dogpile.cache",
        "the lock is released by errors and panics",
        &[
            ("tests/region/failing.rs", &["all_who_wait_share_the_error", "a_panic_hands_the_lead_on"]),
            ("tests/region/mutexes.rs", &["it_is_given_back_after_errors_and_panics"]),
        ],
    ),
    (
        "dogpile.cache",
        "a creator may create other keys; for its own it is not locked out, as there, but told",
        &[(
            "tests/region/creating.rs",
            &["the_creator_may_ask_for_other_keys", "the_creator_may_not_ask_for_its_own_key"],
        )],
    ),
    (
        "dogpile.cache",
        "locks are not kept when nobody uses them",
        &[("src/region/tests.rs", &["k1_keys_have_a_state_only_while_somebody_needs_it"])],
    ),
    (
        "dogpile.cache",
        "no read more than needed: a hit, a stale value, a creation, a batch, nothing for no keys",
        &[
            (
                "tests/region/calls.rs",
                &[
                    "a_hit_is_one_read",
                    "a_stale_value_is_one_read",
                    "an_uncontended_creation_is_one_read_and_one_write",
                    "a_batch_is_one_read_and_one_write",
                ],
            ),
            ("tests/region/reading.rs", &["get_multi_of_nothing_does_not_ask_the_store"]),
            ("tests/region/writing.rs", &["set_multi_of_nothing_does_not_ask_the_store"]),
        ],
    ),
    (
        "dogpile.cache",
        "batches: overlapping ones end, what others make is joined, errors leave nothing locked",
        &[(
            "tests/region/many.rs",
            &[
                "overlapping_batches_end",
                "keys_that_are_made_elsewhere_are_joined",
                "an_error_or_a_panic_leaves_nothing_locked",
            ],
        )],
    ),
    (
        "dogpile.cache",
        "`set` and `delete` wait for no creation, and win over one",
        &[
            ("tests/region/writing.rs", &["set_and_delete_wait_for_no_creation"]),
            (
                "tests/region/newer.rs",
                &["all_of_them_before_it_is_written", "with_the_envelope_of_dogpile_cache"],
            ),
        ],
    ),
    (
        "dogpile.cache",
        "`invalidate` is of one region object; hard makes all wait",
        &[(
            "tests/region/invalidating.rs",
            &["another_region_over_the_same_store_knows_nothing_of_it", "hard_makes_everybody_wait"],
        )],
    ),
    (
        "dogpile.cache",
        "`RegionInvalidationStrategy` of one's own",
        &[("tests/region/writing.rs", &["an_invalidation_strategy_of_ones_own"])],
    ),
    (
        "dogpile.cache",
        "`cache_on_arguments` and what it adds to the function; a callable `expiration_time`; `should_cache_fn`",
        &[(
            "tests/memoised_in_regions.rs",
            &[
                "helpers_say_what_the_store_says",
                "a_callable_fresh_is_asked_at_each_call",
                "what_is_not_cached",
            ],
        )],
    ),
    (
        "dogpile.cache",
        "`cache_multi_on_arguments`, with holes",
        &[("tests/memoised_in_regions.rs", &["one_call_for_many_keys"])],
    ),
    (
        "dogpile.cache",
        "key generators and manglers",
        &[("tests/keys.rs", &["python_has_the_same_keys", "python_mangles_alike"])],
    ),
    (
        "dogpile.cache",
        "`async_creation_runner`: the caller has the stale value; without one it waits",
        &[(
            "tests/region/creating.rs",
            &["detached_in_the_background_when_stale", "the_background_asks_should_cache"],
        )],
    ),
    (
        "dogpile.cache",
        "a mutex of the backend's, one for several keys, which throttles creations",
        &[
            (
                "tests/region/mutexes.rs",
                &[
                    "held_elsewhere_what_is_missing_is_waited_for",
                    "one_mutex_for_several_keys",
                    "key_is_locked_asks_the_store",
                ],
            ),
            ("tests/region/creating.rs", &["max_creations_bounds_them"]),
        ],
    ),
    (
        "dogpile.cache",
        "the tests that it ships for backends",
        &[(
            "tests/conformance.rs",
            &["memory_of_objects", "memory_of_bytes", "null", "the_second_delete_fails"],
        )],
    ),
    (
        "dogpile.cache",
        "batches are not altered",
        &[("tests/conformance.rs", &["alters_the_values_of_its_batch", "alters_its_batch_by_one"])],
    ),
    (
        "cachetory",
        "times to live, and what has expired is no obstacle",
        &[(
            "tests/region/writing.rs",
            &[
                "set_with_has_its_own_time_to_live",
                "expire_in_sets_and_takes_away",
                "expire_at_is_a_time_of_day",
                "if_absent_does_not_mind_what_has_expired_or_is_invalid",
            ],
        )],
    ),
    (
        "cachetory",
        "`clear`, of the region's own keys",
        &[(
            "tests/region/writing.rs",
            &["clear_takes_the_regions_own_keys_only", "clear_leaves_nothing_to_find"],
        )],
    ),
    (
        "cachetory",
        "serializers by URL, chained; their bytes",
        &[
            ("src/codec/tests.rs", &["every_chain_gives_back_what_it_got"]),
            ("src/codec/tests/golden.rs", &["golden_entries_of_python_are_read"]),
        ],
    ),
    (
        "cachetory",
        "backends by URL",
        &[("tests/schemes.rs", &["backends_have_the_names_that_others_gave_them"])],
    ),
    (
        "cachetory",
        "`cached` with a cache by the call, or none",
        &[("tests/memoised/places.rs", &["a_cache_by_the_call_or_none"])],
    ),
    (
        "cachetory",
        "`make_default_key`, `make_default_hashed_key`",
        &[("tests/keys.rs", &["python_has_the_same_keys"])],
    ),
    ("cachetory", "an executor for what blocks", &[("tests/conformance.rs", &["memory_on_threads"])]),
];
