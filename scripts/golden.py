"""What dogpile.cache and cachetory write, recorded for the tests; and whether they can read what we write.

Without arguments: writes tests/golden/python.json. With --check: compares that file with what the packages write now, and
reads tests/golden/ours.json, which the Rust test `golden` keeps, by the packages.
"""

import json
import platform
import sys
import zlib
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import ormsgpack
import zstd
from cachetory.serializers import from_url
from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE, CacheBackend

FOLDER = Path(__file__).parent.parent / "tests" / "golden"
PACKAGES = ["dogpile.cache", "cachetory", "ormsgpack", "zstd"]

# The Rust test has the same values under the same names.
VALUES = {
    "none": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "u8": 200,
    "i16": -30000,
    "i64 min": -(2**63),
    "u64 max": 2**64 - 1,
    "float": 0.1,
    "small float": 1e-7,
    "large float": 1.7976931348623157e308,
    "no text": "",
    "text": "Ada",
    "text with bars": 'a|b||{"ct": 1, "v": 3}|',
    "unicode": "na\u00efve \u2028 \U0001f600",
    "controls": "\0\t\r\n\x7f\"\\",
    "long text": "dogpile " * 500,
    "no list": [],
    "list": [1, 2, 300, -70000],
    "nested": [[], [[1]], [[2, 3], []]],
    "options": [None, "a", None],
    "map": {"a": 1, "b": -2, "": 3},
    "person": {"name": "Ada", "born": 1815, "languages": ["en", "fr"], "score": None, "tall": False},
    "variant": {"Moved": {"x": 1, "y": -1}},
    "unit variant": "Quit",
    "tuple": ["a", 1, 0.5, True],
}

TIMES = [1795193926.394547, 1795193926.0, 0.0, 1e-06, 0.0001, 9999999999.999998, 1.5]


class Captured(CacheBackend):
    """A backend of one entry, as bytes."""

    def __init__(self, arguments):
        self.entry = NO_VALUE

    def get(self, key):
        return self.entry

    def set(self, key, value):
        self.entry = value

    def delete(self, key):
        self.entry = NO_VALUE

    get_serialized = get
    set_serialized = set


def to_json(value):
    return json.dumps(value).encode()


FORMATS = {"json": (to_json, json.loads), "msgpack": (ormsgpack.packb, ormsgpack.unpackb)}
COMPRESSIONS = {"zlib": (zlib.compress, zlib.decompress), "zstd": (zstd.compress, zstd.decompress)}


def serializers(chain):
    """What a user of dogpile.cache would pass as serializer and deserializer."""
    names = chain.split("+")
    dump, load = FORMATS[names[0]]
    steps = [COMPRESSIONS[name] for name in names[1:]]

    def write(value):
        data = dump(value)
        for compress, _ in steps:
            data = compress(data)
        return data

    def read(data):
        for _, decompress in reversed(steps):
            data = decompress(data)
        return load(data)

    return write, read


def region(chain):
    write, read = serializers(chain)
    made = make_region(serializer=write, deserializer=read).configure("dogpile.cache.null")
    made.backend = Captured({})
    return made


def by_dogpile(chain, value, time):
    made = region(chain)
    with mock.patch("time.time", lambda: time):
        made.set("key", value)
    return made.backend.entry


def by_cachetory(chain, value):
    data = from_url(f"{chain}://").serialize(value)
    # The Redis client does this with text.
    return data.encode() if isinstance(data, str) else data


def record():
    rows = []

    def row(envelope, chain, name, data, time=None):
        rows.append({"envelope": envelope, "chain": chain, "value": name, "ct": time, "hex": data.hex()})

    for name, value in VALUES.items():
        for chain in ["json", "msgpack", "json+zlib", "msgpack+zstd", "json+zlib+zstd"]:
            row("dogpile", chain, name, by_dogpile(chain, value, TIMES[0]), TIMES[0])
        # json+zlib and json+zstd fail in cachetory itself: its JSON is text, its compressors want bytes.
        for chain in ["json", "msgpack", "msgpack+zlib", "msgpack+zstd", "msgpack+zlib+zstandard"]:
            row("plain", chain, name, by_cachetory(chain, value))
    for time in TIMES[1:]:
        row("dogpile", "json", "zero", by_dogpile("json", 0, time), time)
    versions = {package: version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "versions": versions, "rows": rows}


def check():
    recorded = json.loads((FOLDER / "python.json").read_text())
    now = record()
    wrong = []
    if recorded["versions"] == now["versions"]:
        for old, new in zip(recorded["rows"], now["rows"], strict=True):
            # The same bytes; but compressors may differ with the library that Python is built with.
            if old != new and "+" not in old["chain"]:
                wrong.append(f"recorded otherwise: {old} {new}")
    ours = json.loads((FOLDER / "ours.json").read_text())
    read = 0
    for entry in ours["rows"]:
        data, chain, expected = bytes.fromhex(entry["hex"]), entry["chain"], VALUES.get(entry["value"])
        if entry["envelope"] == "own":
            continue
        if entry["envelope"] == "dogpile":
            made = region(chain)
            made.backend.entry = data
            value, time = made.get("key", ignore_expiration=True), made.get_value_metadata("key").cached_time
            if time != entry["ct"]:
                wrong.append(f"{entry}: the time is {time}")
        elif chain.startswith("json+"):
            value = serializers(chain)[1](data)
        else:
            value = from_url(f"{chain}://").deserialize(data)
        read += 1
        if value != expected or type(value) is not type(expected):
            wrong.append(f"{entry}: {value!r} is not {expected!r}")
    for line in wrong:
        print(line)
    print(f"{len(now['rows'])} entries recorded again, {read} of ours read by the packages, {len(wrong)} differences")
    return 1 if wrong or read == 0 else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    FOLDER.mkdir(parents=True, exist_ok=True)
    recorded = record()
    head = json.dumps({key: recorded[key] for key in ("python", "versions")})[:-1]
    lines = ",\n".join(json.dumps(entry) for entry in recorded["rows"])
    (FOLDER / "python.json").write_text(f'{head}, "rows": [\n{lines}\n]}}\n')
    print(f"{len(recorded['rows'])} entries")
