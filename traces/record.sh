#!/bin/sh
# Records which files a cold build of this workspace opens, in order, into build-opens.ctr.zst.
#
# Needs strace. Only numbers are kept: a file's number is its place in the order of first opens. Directories and the
# kernel's own files (/dev, /proc, /sys) are left out.
set -eu
cd "$(dirname "$0")/.."
output=${1:-traces/build-opens.ctr.zst}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo fetch
cargo build --release --package dogpile-cli

# -y prints the path that an open resolved to, as in `... = 3</etc/passwd>`, where the call returns. When another process
# comes between, that is a second line, without the flags.
strace --follow-forks --seccomp-bpf -qq -y --trace=open,openat --status=successful --output="$work/log" \
    env CARGO_TARGET_DIR="$work/target" cargo build --workspace --offline

awk '
    / <unfinished \.\.\.>$/ { directory[$1] = /O_DIRECTORY/; next }
    /<\.\.\. open(at)? resumed>/ { if (directory[$1]) next }
    /O_DIRECTORY/ { next }
    match($0, / = [0-9]+<\/.*>$/) {
        path = substr($0, RSTART, RLENGTH - 1)
        sub(/^ = [0-9]+</, "", path)
        if (path !~ /^\/(dev|proc|sys)\//) print path
    }
' "$work/log" >"$work/opens"
"${CARGO_TARGET_DIR:-target}/release/dogpile" pack "$work/opens" --format lines --output "$output"
