#!/usr/bin/env bash
# A crate outside of the workspace has a backend of its own, and runs the conformance suite on it, as
# `examples/own_backend.rs` shows it.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/src"
cp examples/own_backend.rs "$scratch/src/main.rs"
cat >"$scratch/Cargo.toml" <<TOML
[package]
name = "own-backend"
version = "0.0.0"
edition = "2024"

[dependencies]
dogpile = { path = "$PWD", features = ["conformance"] }
TOML
cp Cargo.lock "$scratch/"
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/scratch" \
    cargo run --quiet --manifest-path "$scratch/Cargo.toml"
