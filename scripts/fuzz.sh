#!/usr/bin/env bash
# Fuzzes for so many seconds in all, 120 if nothing is said: scripts/fuzz.sh [SECONDS [TARGET...]]
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
for fuzz_target in $targets; do
    # Its notes on each new input are for nobody; its end and its statistics are.
    cargo +nightly fuzz run "$fuzz_target" --target-dir "$target/fuzz" -- \
        -max_total_time=$((seconds / count)) -rss_limit_mb=2048 -print_final_stats=1 2>&1 | { grep -vE '^(#|INFO)' || true; }
done
