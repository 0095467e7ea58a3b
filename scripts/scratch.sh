#!/usr/bin/env bash
# A crate outside of the workspace uses every public method of `Cache`, as `examples/tour.rs` shows them.
set -euo pipefail
cd "$(dirname "$0")/.."

# Every public method is in the tour; `validate` is there under fuzzing only.
missing=0
for method in $(grep -hoE '^    pub (const |async )?fn [a-z_]+' src/cache/mod.rs src/cache/on_demand.rs src/cache/builder.rs src/cache/snapshot.rs |
    awk '{ print $NF }' | grep -vx validate | sort -u); do
    # `new` of the options, `len` and `is_empty` of a snapshot and of a cache share their names.
    grep -qE "\b$method\(" examples/tour.rs || { echo "examples/tour.rs does not use $method"; missing=1; }
done
[ "$missing" -eq 0 ]

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/src"
cp examples/tour.rs "$scratch/src/main.rs"
cat >"$scratch/Cargo.toml" <<TOML
[package]
name = "scratch"
version = "0.0.0"
edition = "2024"

[dependencies]
dogpile = { path = "$PWD", features = ["serde"] }
pollster = "1.0"
serde_json = "1"
TOML
cp Cargo.lock "$scratch/"
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/scratch" \
    cargo run --quiet --manifest-path "$scratch/Cargo.toml"
