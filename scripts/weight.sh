#!/usr/bin/env bash
# What the core weighs: the crates in its tree (more than 15 is a failure), and a cold build of it (a time is never one).
set -euo pipefail
cd "$(dirname "$0")/.."

crates=$(cargo tree -p dogpile --edges normal,build --prefix none --locked | sed 's/ (.*//' | sort -u)
count=$(wc -l <<<"$crates")
echo "$crates" | paste -sd ',' | sed 's/,/, /g'
echo "crates in the core's tree: $count (at most 15)"

target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
cargo fetch --locked --quiet
start=$(date +%s.%N)
CARGO_TARGET_DIR="$target" cargo build -p dogpile --locked --quiet
seconds=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
echo "cold build of the core: $seconds s (at most 10)"
[ "$count" -le 15 ]
