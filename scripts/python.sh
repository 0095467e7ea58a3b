#!/usr/bin/env bash
# Runs one of the Python scripts here with the packages that we are compared with: scripts/python.sh SCRIPT [ARG...]
#
#     scripts/python.sh golden           records what the packages write, in tests/golden/python.json
#     scripts/python.sh golden --check   records again and compares; and lets the packages read tests/golden/ours.json
#     scripts/python.sh oracle           records what they do, call by call, in tests/golden/oracle.jsonl
#     scripts/python.sh oracle --check   records again and compares
#     scripts/python.sh shared …         shares a region with the processes of tests/python_shared.rs
#
# Needs Python 3 with venv, and for the first run the network. The packages, in pinned versions, go into a virtual
# environment in the target folder; without arguments that is all.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    'dogpile.cache==1.5.0'
    'cachetory==3.5.1'
    'ormsgpack==1.13.1'
    'zstd==1.5.7.2'
    'redis==8.1.0'
    'pymemcache==4.0.0'
    'python-memcached==1.62'
)
home=${CARGO_TARGET_DIR:-$PWD/target}/python
if [ "$(cat "$home/installed" 2>/dev/null)" != "${packages[*]}" ]; then
    rm -rf "$home"
    python3 -m venv "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
    echo "${packages[*]}" >"$home/installed"
fi
[ $# -gt 0 ] || exit 0
script=$1
shift
exec "$home/bin/python" "scripts/$script.py" "$@"
