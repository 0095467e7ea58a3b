#!/usr/bin/env python3
"""Records what dogpile.cache makes of texts in a configuration: python scripts/config_golden.py > tests/golden/config.json

Needs the version that stands in the record: pip install dogpile.cache==1.5.0
"""

import importlib.metadata
import itertools
import json
import math

from dogpile.util import coerce_string_conf

TEXTS = """
0 1 -1 +1 007 -0 +-1 1_000 0x10 12345678901234567890
1. .5 -.5 +.5 0.5 00.50 . -. 1.5.2 1e3 1E3 1e+3 1e-3 1e 1.e2 .5e2 e5 1e400 -1e400 1e3.5 1ee3
inf -inf nan NaN Infinity
true True TRUE tRuE false False FALSE yes no on off
None none NONE null
memory dogpile.cache.memory redis://localhost:6379/0 127.0.0.1
""".split()
TEXTS += ["", " ", " 5 ", "\t-1\n", " 1.5 ", " true ", " None ", "a b", "1 2", "- 1", "5\x1c", "\u00a05\u2003", "1\n2"]
# And whatever can be written with so few signs.
TEXTS += ["".join(signs) for length in (2, 3, 4) for signs in itertools.product("1+.e", repeat=length)]


def kind(value):
    if value is None:
        return "nothing", None
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int):
        return "int", str(value)
    if isinstance(value, float):
        return "float", repr(value) if math.isfinite(value) else "infinite"
    return "text", value


cases = [[text, *kind(coerce_string_conf({"x": text})["x"])] for text in dict.fromkeys(TEXTS)]
print('{\n"dogpile.cache": "%s",\n"texts": [' % importlib.metadata.version("dogpile.cache"))
print(",\n".join(json.dumps(case) for case in cases))
print("]\n}")
