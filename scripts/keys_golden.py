#!/usr/bin/env python3
"""Records the keys of dogpile.cache and cachetory: python scripts/keys_golden.py > tests/golden/keys.json

Needs both packages, in the versions that stand in the record: pip install dogpile.cache==1.5.0 cachetory==3.5.1
"""

import importlib.metadata
import json
import random
import struct
import sys

from cachetory.decorators.shared import make_default_hashed_key, make_default_key
from dogpile.cache import util

LISTS = [
    [],
    [""],
    [1],
    ["1"],
    [1, 2],
    ["a b"],
    ["a", "b"],
    ["a:", "b"],
    ["a", ":b"],
    [True, False, None],
    [1.0, -0.5, 1e16, 1e-5],
    ["schlüssel", "鍵", "🔑"],
    ["line\nend", "nul\0", "tab\t", "back\\slash", "per|cent%"],
    [2**63, -(2**63)],
]
NAMES = [("shop.users", "find"), ("__main__", "f"), ("m", "größe")]
NAMESPACES = [None, "", "v2", "a|b", "a b"]
NAMED = [
    {},
    {"b": 1, "a": 2},
    {"id": 7, "at": "eu", "Z": None},
    {"_": "a b", "ä": "c:d", "z": 1.5},
]


def function(module, name, source="def f(*args): pass"):
    scope = {}
    exec(source, scope)
    made = scope["f"]
    made.__module__, made.__name__, made.__qualname__ = module, name, name
    return made


def calls():
    for module, name in NAMES:
        for namespace in NAMESPACES:
            head = {"module": module, "function": name, "namespace": namespace}
            for args in LISTS:
                made = util.function_key_generator(namespace, function(module, name))
                yield {"form": "dogpile", **head, "args": args, "key": made(*args)}
                # Without the first argument of a method.
                method = util.function_key_generator(namespace, function(module, name, "def f(self, *args): pass"))
                assert method(object(), *args) == made(*args)
                multi = util.function_multi_key_generator(namespace, function(module, name))
                yield {"form": "dogpile multi", **head, "args": args, "keys": multi(*args)}
            for named in NAMED:
                source = "def f(%s): pass" % ", ".join(f"{key}={value!r}" for key, value in named.items())
                made = util.kwarg_function_key_generator(namespace, function(module, name, source))
                key = made()
                assert made(*named.values()) == key == made(**named)
                yield {"form": "dogpile by name", **head, "named": list(named.items()), "key": key}
        head = {"module": module, "function": name}
        for args in LISTS:
            for named in NAMED:
                made = function(module, name, "def f(*args, **named): pass")
                yield {
                    "form": "cachetory",
                    **head,
                    "args": args,
                    "named": list(named.items()),
                    "key": make_default_key(made, *args, **named),
                    "hashed": make_default_hashed_key(made, *args, **named),
                }


def floats():
    dice = random.Random(5)
    bits = [0, 1 << 63, 1, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48]
    bits += [dice.getrandbits(64) for _ in range(300)]
    bits += [struct.unpack("<Q", struct.pack("<d", 10.0**power))[0] for power in range(-25, 25)]
    bits += [struct.unpack("<Q", struct.pack("<d", dice.uniform(-1, 1) * 10**dice.randrange(-8, 20)))[0] for _ in range(200)]
    return [[str(bits), str(struct.unpack("<d", struct.pack("<Q", bits))[0])] for bits in bits]


def mangled():
    mangler = util.length_conditional_mangler(8, util.sha1_mangle_key)
    for key in ["", "key", "a" * 7, "a" * 8, "a" * 9, "ä" * 4, "ä" * 7, "ä" * 8, "🔑" * 7, "🔑" * 8, "\0\r\n", "x" * 1000]:
        yield {"key": key, "sha1": util.sha1_mangle_key(key), "from 8": mangler(key)}


record = {
    "python": sys.version.split()[0],
    "dogpile.cache": importlib.metadata.version("dogpile.cache"),
    "cachetory": importlib.metadata.version("cachetory"),
    "calls": list(calls()),
    "floats": floats(),
    "mangled": list(mangled()),
}
# A case a line.
parts = []
for name, value in record.items():
    text = json.dumps(value)
    if isinstance(value, list):
        text = "[\n" + ",\n".join(json.dumps(case) for case in value) + "\n]"
    parts.append(f'"{name}": {text}')
print("{\n" + ",\n".join(parts) + "\n}")
