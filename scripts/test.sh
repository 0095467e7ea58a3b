#!/usr/bin/env bash
# Everything that must be green. Installs what it needs where it can, and ends with what did not run and why.
#
# Needs Rust (stable and nightly, by rustup), a C compiler and git. Uses apt for valgrind, binutils and g++, and cargo
# for cargo-fuzz. With CI=true a stage that could not run is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

FUZZ_SECONDS=${FUZZ_SECONDS:-120}
target=${CARGO_TARGET_DIR:-$PWD/target}
host=$(rustc -vV | sed -n 's/^host: //p')
failed=()
skipped=()
times=()

# stage NAME COMMAND...: runs it, and notes how long it took.
stage() {
    local name=$1 start=$SECONDS
    shift
    echo
    echo "=== $name"
    if "$@"; then
        times+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
    else
        failed+=("$name")
        times+=("$(printf '%5d s  %s: FAILED' $((SECONDS - start)) "$name")")
    fi
}

# skip NAME WHY
skip() {
    skipped+=("$1: $2")
}

# have_command NAME PACKAGE: there is such a command, or apt can install it.
have_command() {
    command -v "$1" >/dev/null && return
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    command -v apt-get >/dev/null || return
    if [ -z "${updated:-}" ]; then
        "${as_root[@]}" apt-get update -qq >/dev/null 2>&1
        updated=yes
    fi
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1
    command -v "$1" >/dev/null
}

have_nightly() {
    rustc +nightly --version >/dev/null 2>&1
}

have_cargo_fuzz() {
    cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked --quiet
}

each_feature() {
    local features
    features=$(sed -n '/^\[features\]/,/^\[dep/p' Cargo.toml | grep -oE '^[a-z_]+' | grep -vx default)
    cargo check -p dogpile --locked --no-default-features || return
    for feature in $features; do
        echo "feature $feature"
        cargo check -p dogpile --locked --no-default-features --features "$feature" || return
    done
    cargo check -p dogpile --locked --all-features
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features --locked -p dogpile -p dogpile-macros
}

models() {
    RUSTFLAGS="--cfg dogpile_loom" CARGO_TARGET_DIR="$target/loom" \
        cargo run -p dogpile-loom-tests --release --locked --bin mutants
}

fuzz() {
    local targets count
    targets=$(cargo +nightly fuzz list) || return
    count=$(wc -w <<<"$targets")
    for fuzz_target in $targets; do
        cargo +nightly fuzz run "$fuzz_target" --target-dir "$target/fuzz" -- \
            -max_total_time=$((FUZZ_SECONDS / count)) -rss_limit_mb=2048 -print_final_stats=1 2>&1 |
            grep -vE '^(#|INFO)' || true
        [ "${PIPESTATUS[0]}" -eq 0 ] || return 1
    done
}

# asan OPTIONS TARGETS...: runs tests under the address sanitizer.
asan() {
    local options=$1
    shift
    ASAN_OPTIONS=$options RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR="$target/asan" \
        cargo +nightly test -p dogpile --locked --all-features --target "$host" "$@"
}

sanitizer() {
    asan detect_leaks=1 --test stress --test borrowing --test capacity --test expiry --test iteration || return
    # These leak on purpose: what a stopped writer left, payloads of panics that nobody may drop, futures that are forgotten.
    asan detect_leaks=0 --lib --test hostile --test follows_model --test creating --test gate_alone --test tasks
}

# schedules COMMAND: `short` with the tests, `long` for all that there is to see.
schedules() {
    RUSTFLAGS="--cfg dogpile_shuttle --cfg fuzzing" CARGO_TARGET_DIR="$target/shuttle" \
        cargo --config 'profile.release.package.dogpile.debug-assertions=true' \
        run -p dogpile-schedules --release --locked -- "$@"
}

# The tests of what is borrowed, freed and shared, on the second backend of reclamation.
second_backend() {
    RUSTFLAGS="--cfg dogpile_epoch" CARGO_TARGET_DIR="$target/epoch" \
        cargo test -p dogpile --locked --all-features --lib --test borrowing --test stress --test capacity --test hostile
}

single_flight() {
    cargo run -p dogpile-benches --release --locked -- single-flight
}

instructions() {
    cargo run -p dogpile-benches --release --locked -- instructions --check
}

stage "format" cargo fmt --all --check
stage "clippy" cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
stage "documentation" docs
stage "each feature" each_feature
stage "weight of the core" scripts/weight.sh
stage "a crate of a user's" scripts/scratch.sh
stage "tests" cargo test --locked --all-features
stage "tests on the second backend" second_backend
stage "an example" cargo run --quiet --locked --example guard_a_file
stage "models and mutants" models
stage "schedules and histories" schedules short
stage "bugs planted in schedules" schedules planted
stage "single flight beside the peers" single_flight
if have_command valgrind valgrind && have_command objdump binutils; then
    stage "instruction counts" instructions
else
    skip "instruction counts" "valgrind and objdump are needed: apt-get install valgrind binutils"
fi
if have_nightly; then
    stage "address sanitizer" sanitizer
    if ! have_command g++ g++; then
        skip "fuzzing" "a C++ compiler is needed: apt-get install g++"
    elif ! have_cargo_fuzz; then
        skip "fuzzing" "cargo-fuzz is needed: cargo install cargo-fuzz --locked"
    else
        stage "fuzzing, $FUZZ_SECONDS s" fuzz
    fi
else
    skip "address sanitizer" "a nightly toolchain is needed: rustup toolchain install nightly"
    skip "fuzzing" "a nightly toolchain is needed: rustup toolchain install nightly"
fi

echo
echo "=== time for each stage"
printf '%s\n' "${times[@]}"
printf '%5d s  in all\n' "$SECONDS"
echo
echo "did not run: ${#skipped[@]}"
[ ${#skipped[@]} -eq 0 ] || printf '  %s\n' "${skipped[@]}"
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${#failed[@]}"
    printf '  %s\n' "${failed[@]}"
    exit 1
fi
if [ "${CI:-}" = true ] && [ ${#skipped[@]} -gt 0 ]; then
    exit 1
fi
echo "all green"
