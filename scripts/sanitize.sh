#!/usr/bin/env bash
# Runs the library under a sanitizer.
#
# scripts/sanitize.sh tests               all tests, with the address sanitizer, and the leak sanitizer where nothing leaks
#                                         on purpose
# scripts/sanitize.sh address [SECONDS]   the soak for so long (600), with the same two
# scripts/sanitize.sh thread [SECONDS]    the soak for so long (600), with the thread sanitizer and a standard library that
#                                         is instrumented, too; then with a race planted, which must be found
# scripts/sanitize.sh has-thread          whether the last one can be done here
#
# Needs a nightly toolchain; the thread sanitizer also its component rust-src.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?tests, address, thread or has-thread}
seconds=${2:-600}
target=${CARGO_TARGET_DIR:-$PWD/target}
host=$(rustc -vV | sed -n 's/^host: //p')

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# soak_of TREE: makes a package of the soak and nothing else, or what it is compared with would have to be built, too.
soak_of() {
    mkdir -p "$scratch/soak"
    cp benches/src/soak.rs benches/src/allocator.rs "$scratch/soak/"
    cat >"$scratch/soak/Cargo.toml" <<TOML
[package]
name = "soak"
version = "0.0.0"
edition = "2024"

[workspace]

[[bin]]
name = "soak"
path = "soak.rs"

[dependencies]
dogpile = { path = "$1" }
libc = "0.2"
rustix = { version = "1.1", default-features = false, features = ["param", "std"] }

[profile.release]
debug = "line-tables-only"
debug-assertions = true
TOML
    cp Cargo.lock "$scratch/soak/"
}

# soak SECONDS FLAGS CARGO-FLAGS...: a sanitizer keeps what was freed, so the resident memory says nothing.
soak() {
    local seconds=$1 flags=$2
    shift 2
    RUSTFLAGS=$flags CARGO_TARGET_DIR="$target/$kind" \
        cargo +nightly run --quiet --release --manifest-path "$scratch/soak/Cargo.toml" --target "$host" "$@" -- \
        --seconds "$seconds" --growth 100000
}

# Nodes in blocks of ours would be used again unseen.
plain="--cfg dogpile_plain_blocks"

tests() {
    # These leak on purpose: what a stopped writer left, payloads of panics that nobody may drop, futures that are
    # forgotten.
    local leaky=(--lib --test hostile --test follows_model --test creating --test tasks)
    local whole=(--test stress --test borrowing --test capacity --test expiry --test iteration --test snapshot
        --test contention --test gate_alone)
    local test=(cargo +nightly test -p dogpile --locked --features serde,tokio --target "$host")
    export RUSTFLAGS="-Zsanitizer=address $plain" CARGO_TARGET_DIR="$target/asan"
    ASAN_OPTIONS=detect_leaks=1 "${test[@]}" "${whole[@]}"
    ASAN_OPTIONS=detect_leaks=0 "${test[@]}" "${leaky[@]}"
}

address() {
    soak_of "$PWD"
    ASAN_OPTIONS=detect_leaks=1 soak "$seconds" "-Zsanitizer=address $plain"
}

has-thread() {
    rustup component add rust-src --toolchain nightly >/dev/null 2>&1 || return
    local library
    library=$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library
    cargo +nightly fetch --quiet --locked --manifest-path "$library/Cargo.toml" --target "$host" >/dev/null 2>&1
}

thread() {
    local flags="-Zsanitizer=thread --cfg dogpile_tsan $plain"
    # arc-swap drops by a fence, which the sanitizer does not see.
    echo 'race:arc_swap::' >"$scratch/suppressions"
    export TSAN_OPTIONS="suppressions=$scratch/suppressions halt_on_error=1"
    # A copy, as the race is planted later on.
    mkdir "$scratch/tree"
    cp -r src docs macros examples tests Cargo.lock README.md "$scratch/tree/"
    sed -e 's/^members = .*/members = ["."]/' -e '/^default-members = /d' Cargo.toml >"$scratch/tree/Cargo.toml"
    soak_of "$scratch/tree"
    soak "$seconds" "$flags" -Zbuild-std

    local planted="RELEASE = Relaxed"
    sed -i "s/RELEASE = Release/$planted/" "$scratch/tree/src/engine/table/node.rs"
    grep -q "$planted" "$scratch/tree/src/engine/table/node.rs"
    if soak 20 "$flags" -Zbuild-std >"$scratch/planted" 2>&1; then
        echo "a planted race was not found"
        return 1
    fi
    grep -m1 "WARNING: ThreadSanitizer: data race" "$scratch/planted"
    echo "that was the planted one"
}

case $kind in
tests | address | thread | has-thread) "$kind" ;;
*)
    echo "tests, address, thread or has-thread, not $kind" >&2
    exit 2
    ;;
esac
