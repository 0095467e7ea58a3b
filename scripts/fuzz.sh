#!/usr/bin/env bash
# Fuzzes for so many seconds in all, 120 if nothing is said, two targets at a time: scripts/fuzz.sh [SECONDS [TARGET...]]
#
# Needs a nightly toolchain, a C++ compiler and cargo-fuzz. What was found stands in fuzz/artifacts; `cargo +nightly fuzz run
# TARGET FILE` runs it again.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-120}
shift || true
target=${CARGO_TARGET_DIR:-$PWD/target}
targets=${*:-$(cargo +nightly fuzz list)}
count=$(wc -w <<<"$targets")
cargo +nightly fuzz build --target-dir "$target/fuzz" 2>&1 | tail -1

# fuzz TARGET SECONDS: its notes on each new input are for nobody; its end and its statistics are.
fuzz() {
    cargo +nightly fuzz run "$1" --target-dir "$target/fuzz" -- \
        -max_total_time="$2" -rss_limit_mb=2048 -print_final_stats=1 2>&1 | { grep -vE '^(#|INFO|.NEW_FUNC)' || true; }
}

# Two at a time: each takes one core.
running=()
for fuzz_target in $targets; do
    fuzz "$fuzz_target" $((2 * seconds / (count + count % 2))) &
    running+=($!)
    if [ ${#running[@]} -eq 2 ] || [ "$count" -eq 1 ]; then
        for job in "${running[@]}"; do
            wait "$job"
        done
        running=()
    fi
done
for job in "${running[@]}"; do
    wait "$job"
done
