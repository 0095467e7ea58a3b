#!/usr/bin/env bash
# Everything that must be green. Installs what it needs where it can, and ends with what did not run and why.
#
# Needs Rust (stable and nightly, by rustup), a C compiler and git. Uses apt for redis, memcached, openssl, valgrind, binutils,
# g++ and Python, pip for the packages that we are compared with, and cargo for cargo-fuzz. With CI=true a stage that could
# not run is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

# Two targets at a time: so long is twice as much.
FUZZ_SECONDS=${FUZZ_SECONDS:-72}
target=${CARGO_TARGET_DIR:-$PWD/target}
host=$(rustc -vV | sed -n 's/^host: //p')
failed=()
skipped=()
unable=()
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

# cannot NAME WHY: as `skip`, where not every toolchain can, and CI is content.
cannot() {
    unable+=("$1: $2")
}

# have_command NAME PACKAGE: there is such a command, or apt can install it.
have_command() {
    command -v "$1" >/dev/null && return
    apt_install "$2"
    command -v "$1" >/dev/null
}

# apt_install PACKAGE: where there is apt.
apt_install() {
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    command -v apt-get >/dev/null || return
    if [ -z "${updated:-}" ]; then
        "${as_root[@]}" apt-get update -qq >/dev/null 2>&1
        updated=yes
    fi
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1
}

# Python, with the packages that we are compared with.
have_python() {
    have_command python3 python3 || return
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    scripts/python.sh
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

# Those that start servers and other processes, and mostly wait: many at a time.
of_stores="attacked_stores file_processes memcached memcached_conformance python_shared redis redis_faults redis_tls shared_stores"

tests() {
    local source name targets=()
    for source in tests/*.rs cli/tests/*.rs; do
        name=$(basename "$source" .rs)
        [[ " $of_stores " == *" $name "* ]] || targets+=(--test "$name")
    done
    cargo test --locked --all-features --lib --bins "${targets[@]}" || return
    cargo test --locked --all-features --doc
}

tests_of_stores() {
    local name targets=()
    for name in $of_stores; do
        targets+=(--test "$name")
    done
    RUST_TEST_THREADS=8 cargo test --locked --all-features "${targets[@]}"
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features --locked -p dogpile -p dogpile-macros
}

models() {
    RUSTFLAGS="--cfg dogpile_loom" CARGO_TARGET_DIR="$target/loom" \
        cargo run -p dogpile-loom-tests --release --locked --bin mutants -- "$@"
}

# Orderings that the last change touches, and then those of which a model is known, each dropped in its turn.
weakened() {
    local since
    since=$(git merge-base HEAD origin/main 2>/dev/null)
    [ -n "$since" ] && [ "$since" != "$(git rev-parse HEAD)" ] || since=HEAD~1
    if git rev-parse --quiet --verify "$since^{commit}" >/dev/null; then
        models --weaken --changed "$since" --seconds 60 || return
    else
        echo "no history here: which orderings were touched is not known"
    fi
    models --weaken --known --seconds 60
}

# schedules COMMAND: `short` with the tests, `long` for all that there is to see.
schedules() {
    RUSTFLAGS="--cfg dogpile_shuttle --cfg fuzzing" CARGO_TARGET_DIR="$target/shuttle" \
        cargo --config 'profile.release.package.dogpile.debug-assertions=true' \
        run -p dogpile-schedules --release --locked -- "$@"
}

# All that can happen to the locks of shared stores: in Redis (longer with DOGPILE_LONG=1), and in files.
leases() {
    local model
    for model in leases files; do
        RUSTFLAGS="--cfg dogpile_shuttle --cfg fuzzing" CARGO_TARGET_DIR="$target/shuttle" \
            cargo --config 'profile.release.package.dogpile.debug-assertions=true' \
            run -p dogpile-schedules --release --locked --bin "$model" || return
    done
}

# The tests of what is borrowed, freed and shared, on the second backend of reclamation.
second_backend() {
    RUSTFLAGS="--cfg dogpile_epoch" CARGO_TARGET_DIR="$target/epoch" \
        cargo test -p dogpile --locked --features serde,tokio --lib --test borrowing --test stress --test capacity --test hostile
}

single_flight() {
    cargo run -p dogpile-benches --release --locked -- single-flight
}

# Built together, and then each is run.
examples() {
    cargo build --locked --examples --all-features || return
    local source name
    for source in examples/*.rs cli/examples/*.rs; do
        name=$(basename "$source" .rs)
        echo "example $name"
        "$target/debug/examples/$name" || return
    done
}

# Whether memory grows takes longer to see: ten minutes, without arguments.
soak() {
    cargo run -p dogpile-benches --release --locked --bin soak -- --seconds 20 --growth 100
}

instructions() {
    cargo run -p dogpile-benches --release --locked -- instructions --check
}

# What is recorded of the Python packages is still what they do; that we do the same are tests.
oracles() {
    scripts/python.sh golden --check || return
    scripts/python.sh oracle --check || return
    # All but the version of Python.
    scripts/python.sh keys_golden | grep -v '^"python"' | cmp - <(grep -v '^"python"' tests/golden/keys.json) || return
    cargo test -p dogpile --locked --all-features --test oracle -- --nocapture
}

stage "format" cargo fmt --all --check
stage "clippy" cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
stage "documentation" docs
stage "each feature" each_feature
stage "weight of the core" scripts/weight.sh
stage "a crate of a user's" scripts/scratch.sh
stage "a backend of a user's" scripts/own-backend.sh
stage "tests" tests
if ! have_command redis-server redis-server || ! have_command redis-sentinel redis-sentinel; then
    skip "tests of shared stores" "Redis is needed: apt-get install redis-server redis-sentinel"
elif ! have_command memcached memcached; then
    skip "tests of shared stores" "memcached is needed: apt-get install memcached"
elif ! have_command openssl openssl; then
    skip "tests of shared stores" "openssl is needed, for a certificate: apt-get install openssl"
elif ! have_python; then
    skip "tests of shared stores" "Python 3 with venv, and once the network, are needed: apt-get install python3 python3-venv"
else
    stage "tests of shared stores" tests_of_stores
fi
stage "tests on the second backend" second_backend
stage "examples" examples
stage "models and mutants" models
stage "weakened orderings" weakened
stage "schedules and histories" schedules short
stage "bugs planted in schedules" schedules planted
stage "the locks of shared stores, all that can happen" leases
stage "single flight beside the peers" single_flight
stage "soak, 20 s" soak
if have_python; then
    stage "the Python packages as oracles" oracles
else
    skip "the Python packages as oracles" "Python 3 with venv, and once the network, are needed: apt-get install python3 python3-venv"
fi
if have_command valgrind valgrind && have_command objdump binutils; then
    stage "instruction counts" instructions
else
    skip "instruction counts" "valgrind and objdump are needed: apt-get install valgrind binutils"
fi
if have_nightly; then
    stage "address sanitizer" scripts/sanitize.sh tests
    if scripts/sanitize.sh has-thread; then
        stage "thread sanitizer" scripts/sanitize.sh thread 12
    else
        cannot "thread sanitizer" "the standard library's source is needed: rustup component add rust-src --toolchain nightly"
    fi
    if ! have_command g++ g++; then
        skip "fuzzing" "a C++ compiler is needed: apt-get install g++"
    elif ! have_cargo_fuzz; then
        skip "fuzzing" "cargo-fuzz is needed: cargo install cargo-fuzz --locked"
    else
        stage "fuzzing, $FUZZ_SECONDS s" scripts/fuzz.sh "$FUZZ_SECONDS"
    fi
else
    skip "address sanitizer" "a nightly toolchain is needed: rustup toolchain install nightly"
    cannot "thread sanitizer" "a nightly toolchain is needed: rustup toolchain install nightly"
    skip "fuzzing" "a nightly toolchain is needed: rustup toolchain install nightly"
fi

echo
echo "=== time for each stage"
printf '%s\n' "${times[@]}"
printf '%5d s  in all\n' "$SECONDS"
echo
echo "did not run: $((${#skipped[@]} + ${#unable[@]}))"
[ ${#skipped[@]} -eq 0 ] || printf '  %s\n' "${skipped[@]}"
[ ${#unable[@]} -eq 0 ] || printf '  %s\n' "${unable[@]}"
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${#failed[@]}"
    printf '  %s\n' "${failed[@]}"
    exit 1
fi
if [ "${CI:-}" = true ] && [ ${#skipped[@]} -gt 0 ]; then
    exit 1
fi
echo "all green"
