"""What dogpile.cache and cachetory do, call by call: the table that the Rust test `oracle` does over again with ours.

Without arguments: writes tests/golden/oracle.jsonl, one row a line. With --check: makes the rows again and compares.

A row is one call, at one time, on a cache in one state: the backend, the region's settings, what each key has, the method, its
arguments; and what came of it: the result, what is stored afterwards, whose creators were called. Time is ours: it moves by
what the rows say, and nothing sleeps. Nor does anything wait: who would wait for a lock of somebody else's is told so.

Results: a value is `[value]`, none is `[]`, nothing to tell is null, an exception is `{"raises": …}`. What is stored, and can
be read, is `[value, age]`, of cachetory `[value]`.
"""

import asyncio
import datetime
import itertools
import json
import sys
import time
from pathlib import Path

FILE = Path(__file__).parent.parent / "tests" / "golden" / "oracle.jsonl"

# The manual clock of the Rust tests starts here, plus what the preparations need.
START = 1_000_000_000.0 + 2_000.0
clock = START


class Now(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(clock, tz)


time.time = lambda: clock

import cachetory.backends.sync.memory  # noqa: E402
import cachetory.private.datetime  # noqa: E402

for module in (cachetory.backends.sync.memory, cachetory.private.datetime):
    module.datetime = Now

from cachetory import serializers  # noqa: E402
from cachetory.backends.async_ import DummyBackend as AsyncDummy  # noqa: E402
from cachetory.backends.async_ import MemoryBackend as AsyncMemory  # noqa: E402
from cachetory.backends.sync import DummyBackend, MemoryBackend  # noqa: E402
from cachetory.caches.async_ import Cache as AsyncCache  # noqa: E402
from cachetory.caches.sync import Cache  # noqa: E402
from cachetory.decorators.async_ import cached as async_cached  # noqa: E402
from cachetory.decorators.sync import cached  # noqa: E402
from dogpile.cache import make_region  # noqa: E402
from dogpile.cache.api import NO_VALUE, CachedValue, CacheMutex, CantDeserializeException  # noqa: E402
from dogpile.cache.proxy import ProxyBackend  # noqa: E402
from dogpile.cache.region import value_version  # noqa: E402
from dogpile.cache.util import sha1_mangle_key  # noqa: E402
from dogpile.util import NameRegistry  # noqa: E402


class Refused(Exception):
    """What creators raise."""


class Waits(Exception):
    """What whoever would wait for a lock gets."""


class Held(CacheMutex):
    """A lock that somebody else has. `other`: what becomes of his creation when he is waited for."""

    def __init__(self, region, key, other):
        self.region, self.key, self.other = region, key, other
        self.is_mine = False

    def acquire(self, wait=True):
        if not wait:
            return False
        if self.other is None:
            raise Waits
        if self.other == "made":
            self.region.set(self.key, "another's")
        self.is_mine = True
        return True

    def release(self):
        assert self.is_mine, "it was never acquired"

    def locked(self):
        return True


NAMES = {
    "Refused": "creator",
    "Waits": "waits",
    "RegionNotConfigured": "not configured",
    "RegionAlreadyConfigured": "already configured",
}


def told(error):
    name = type(error).__name__
    return {"raises": NAMES.get(name, name)}


def attempt(call):
    try:
        return call()
    except Exception as error:  # What is raised is the result.
        return told(error)


def value_of(found):
    return [] if found is NO_VALUE else [found]


# ---- dogpile.cache

# What a key has: when it was set, before the call; and what was invalidated when.
SET_AGO = {
    "fresh": 10,
    "young": 0.25,
    "just set": 0,
    "none": 10,
    "deadline": 60,
    "stale": 100,
    "soft": 30,
    "hard": 30,
    "soft, then hard": 30,
    "hard, then soft": 30,
}
INVALIDATED = {
    "soft": [(20, False)],
    "hard": [(20, True)],
    "soft, then hard": [(25, False), (20, True)],
    "hard, then soft": [(25, True), (20, False)],
}
# What a key has that no region put in: metadata and payload.
RAW = {
    "other version": lambda now: (f'{{"ct": {now - 10}, "v": 1}}', "1"),
    "undecodable": lambda now: (f'{{"ct": {now - 10}, "v": 2}}', "not json"),
    "malformed": lambda now: ("no metadata", "1"),
    "from the future": lambda now: (f'{{"ct": {now + 50}, "v": 2}}', '"old k"'),
}


def loads(data):
    try:
        return json.loads(data)
    except ValueError:
        raise CantDeserializeException() from None


def dumps(value):
    return json.dumps(value).encode()


class Dogpile:
    """One region, prepared."""

    def __init__(self, backend, settings, states):
        global clock
        self.jobs = []
        self.calls = []
        codec = {}
        if backend == "serialized":
            raises = settings.get("deserializer") == "raises"
            codec = {"serializer": dumps, "deserializer": json.loads if raises else loads}
        runner = self.later if settings.get("runner") else None
        mangler = sha1_mangle_key if settings.get("mangler") else None
        mangle = (lambda key: mangler(key.encode())) if mangler else None
        self.region = make_region(async_creation_runner=runner, key_mangler=mangle, **codec)
        name = {"memory": "memory", "serialized": "memory_pickle", "null": "null"}[backend]
        self.name = "dogpile.cache." + name
        self.expiration = settings.get("expiration_time", 60)
        if settings.get("timedelta"):
            self.expiration = datetime.timedelta(seconds=self.expiration)
        if settings.get("configured", True):
            self.configure()
        self.prepare(backend, states)
        clock = START
        if locked := settings.get("locked"):
            held = {key: Held(self.region, key, settings.get("other")) for key in locked}
            # The null backend's lock is nobody's.
            if backend != "null":
                create = self.region._create_mutex
                self.region._lock_registry = NameRegistry(lambda key: held.get(key) or create(key))

    def configure(self, **more):
        return self.region.configure(self.name, expiration_time=self.expiration, **more)

    def prepare(self, backend, states):
        global clock
        events = []
        for key, state in states.items():
            if state in SET_AGO:
                value = None if state == "none" else "old " + key
                put = lambda key=key, value=value: self.region.set(key, value)  # noqa: E731
                events.append((START - SET_AGO[state], 0, put))
            for ago, hard in INVALIDATED.get(state, []):
                events.append((START - ago, 1, lambda hard=hard: self.region.invalidate(hard=hard)))
            if state in RAW and backend != "null":
                metadata, payload = RAW[state](START)
                if backend == "serialized":
                    raw = f"{metadata}|{payload}".encode()
                else:
                    raw = CachedValue(json.loads(payload), json.loads(metadata))
                self.region.backend.set(key, raw)
            if state == "clock put back":
                events.append((START - 10, 0, lambda key=key: self.region.set(key, "old " + key)))
                events.append((START - 1_010, 2, lambda: self.region.invalidate(hard=True)))
        if "clock put back" not in states.values():
            events.sort(key=lambda event: event[:2])
        for when, _, act in events:
            clock = when
            act()

    def later(self, region, key, creator, mutex):
        def run():
            try:
                region.set(key, creator())
            finally:
                mutex.release()

        self.jobs.append(run)

    def creator(self, key, how):
        def create():
            global clock
            self.calls.append(key)
            if how.get("during"):
                self.seen = attempt(lambda: self.call(how["during"], key, {}, nested=True))
            clock += how.get("takes", 0)
            if how.get("raises"):
                raise Refused
            return how.get("makes", "new " + key)

        return create

    def many(self, how):
        def create(*keys):
            self.calls.append(list(keys))
            if how.get("raises"):
                raise Refused
            made = ["new " + key for key in keys]
            return made[: len(made) - how.get("short", 0)]

        return create

    def call(self, method, key, how, nested=False):
        region = self.region
        expires = {name: how[name] for name in ("expiration_time", "ignore_expiration") if name in how}
        caches = {}
        if "should_cache" in how:
            caches["should_cache_fn"] = lambda value: how["should_cache"]
        if method == "get":
            return value_of(region.get(key, **expires))
        if method == "get_value_metadata":
            found = region.get_value_metadata(key, **expires)
            return [] if found is None else [found.payload, found.cached_time - START, found.age]
        if method == "get_multi":
            return [value_of(found) for found in region.get_multi(how["keys"], **expires)]
        if method == "get_or_create":
            inner = {"makes": "inner " + key} if nested else how
            return [region.get_or_create(key, self.creator(key, inner), **expires, **caches)]
        if method == "get_or_create_multi":
            found = region.get_or_create_multi(how["keys"], self.many(how), **expires, **caches)
            return [value_of(value) for value in found]
        if method == "refresh":
            made = self.creator(key, how)
            region.set(key, value := made())
            return [value]
        if method == "set":
            return region.set(key, how.get("value", "put"))
        if method == "set_multi":
            return region.set_multi({key: "put " + key for key in how["keys"]})
        if method == "delete":
            return region.delete(key)
        if method == "delete_multi":
            return region.delete_multi(how["keys"])
        if method in ("invalidate hard", "invalidate soft"):
            return region.invalidate(hard=method == "invalidate hard")
        if method == "key_is_locked":
            return region.key_is_locked(key)
        if method == "is_configured":
            return region.is_configured
        if method == "configure":
            return self.configure(replace_existing_backend=how["replace_existing_backend"]) and None
        if method == "actual_backend":
            return self.actual_backend(how)
        raise ValueError(method)

    def actual_backend(self, how):
        """Whether it is the backend that values go to."""
        region = self.region
        for _ in range(how["proxies"]):
            region.wrap(ProxyBackend)
        if how["replaced"]:
            assert region.actual_backend is not None
            self.configure(replace_existing_backend=True)
        region.set("mark", 1)
        return bool(region.actual_backend.get("mark"))

    def stored(self, key):
        """What `get_or_create` would see, were it not for time and invalidation."""
        found = attempt(lambda: self.region.get_value_metadata(key, ignore_expiration=True))
        if not isinstance(found, CachedValue) or found.metadata["v"] != value_version:
            return []
        return [found.payload, clock - found.metadata["ct"]]

    def row(self, method, how):
        global clock
        result = attempt(lambda: self.call(method, "k", how))
        for job in self.jobs:
            attempt(job)
        out = {"result": result}
        if how.get("during"):
            out["seen"] = self.seen
        if "then" in how:
            after, then = how["then"]
            clock += after
            out["then"] = attempt(lambda: self.call(then, "k", {}))
        out["calls"] = self.calls
        return out


def run_dogpile(backend, settings, states, method, how):
    cache = Dogpile(backend, settings, states)
    out = cache.row(method, how)
    if settings.get("configured", True):
        out["stored"] = {key: cache.stored(key) for key in sorted(set(states) | set(how.get("keys", [])))}
    return out


def dogpile_rows():
    named = ["absent", "fresh", "none", "deadline", "stale", "soft", "hard", "soft, then hard", "hard, then soft"]
    bytes_only = ["undecodable", "malformed"]
    single = {
        "memory": named + ["other version"],
        "serialized": named + ["other version", "from the future"] + bytes_only,
        "null": ["absent", "fresh"],
    }
    sixty = {"expiration_time": 60}

    def each(method, arguments, settings=sixty, states=single):
        for backend in states:
            for state, how in itertools.product(states[backend], arguments):
                yield backend, settings, {"k": state}, method, how

    times = [{}] + [{"expiration_time": n} for n in (0, -1, 5, 1000)]
    yield from each("get", times + [{"ignore_expiration": True}])
    yield from each("get_value_metadata", [{}, {"ignore_expiration": True}])
    creating = times + [
        {"should_cache": True},
        {"should_cache": False},
        {"raises": True},
        {"takes": 5},
        {"makes": None},
    ]
    yield from each("get_or_create", creating)
    yield from each("refresh", [{}, {"raises": True}, {"should_cache": False}])
    yield from each("set", [{}, {"value": None}])
    yield from each("delete", [{}])
    yield from each("key_is_locked", [{}])
    yield from each("get_or_create", [{}, {"should_cache": False}], {**sixty, "runner": True})
    few = dict.fromkeys(("memory", "serialized"), ["absent", "fresh", "stale", "soft", "hard"])
    for never in (None, 0, -1):
        yield from each("get", [{}, {"expiration_time": 1000}], {"expiration_time": never}, few)
        yield from each("get_or_create", [{}, {"expiration_time": 1000}], {"expiration_time": never}, few)
    for method in ("get", "get_or_create"):
        broken = {"serialized": bytes_only}
        yield from each(method, [{}], {**sixty, "deserializer": "raises"}, broken)
        back, just, young = (
            dict.fromkeys(("memory", "serialized"), [state]) for state in ("clock put back", "just set", "young")
        )
        yield from each(method, [{}], sixty, back)
        yield from each(method, [{}, {"expiration_time": 0}], sixty, just)
        yield from each(method, [{}], {"expiration_time": 0.5}, young)
        yield from each(method, [{}], {"expiration_time": 0.5, "timedelta": True}, young)

    # What others do while a value is made, and who gets what meanwhile.
    during = [{"during": what, "then": [1, "get"]} for what in ("delete", "set", "invalidate hard", "invalidate soft")]
    while_made = dict.fromkeys(("memory", "serialized"), ["absent", "stale", "hard"]) | {"null": ["absent"]}
    yield from each("get_or_create", during, sixty, while_made)
    reads = [{"during": what} for what in ("get", "key_is_locked")]
    yield from each("get_or_create", reads, sixty, while_made)
    served = dict.fromkeys(("memory", "serialized"), ["stale", "soft", "hard, then soft"]) | {"null": ["absent"]}
    yield from each("get_or_create", [{"during": "get_or_create"}], sixty, served)
    mangled = {**sixty, "mangler": True}
    yield from each("get_or_create", [{"during": "key_is_locked"}], mangled, {"memory": ["absent", "stale"]})
    yield from each("get", [{}], mangled, {"memory": ["absent", "fresh"]})

    # While somebody else makes it.
    locked = {**sixty, "locked": ["k"]}
    several = {"memory": named, "serialized": named + ["other version", "undecodable"], "null": ["absent"]}
    yield from each("get_or_create", [{}, {"should_cache": False}, {"expiration_time": 5}], locked, several)
    yield from each("get_or_create", [{}], {**locked, "runner": True}, several)
    for method in ("get", "get_value_metadata", "set", "delete", "key_is_locked", "refresh"):
        yield from each(method, [{}], locked, several)
    missing = {"memory": ["absent", "hard"], "serialized": ["absent", "hard", "other version", "undecodable"]}
    for other in ("made", "raised", "made, and not to be stored"):
        waiting = [{}, {"should_cache": False}, {"raises": True}]
        yield from each("get_or_create", waiting, {**locked, "other": other}, missing)
    for method in ("invalidate hard", "invalidate soft"):
        yield from each(method, [{"then": [1, "get_or_create"]}], locked, several)

    for how in ("invalidate hard", "invalidate soft"):
        for then in ("get", "get_or_create"):
            yield from each(how, [{"then": [after, then]} for after in (1, 100)], sixty, single)

    # Many keys.
    mixed = [
        {"a": "fresh", "b": "absent", "c": "stale", "d": "deadline"},
        {"a": "soft", "b": "fresh", "c": "absent", "d": "stale"},
        {"a": "hard", "b": "fresh", "c": "absent", "d": "none"},
        {"a": "fresh", "b": "fresh", "c": "fresh", "d": "none"},
    ]
    lists = [[], ["a", "b", "c", "d"], ["d", "c", "a", "c"], ["b", "b"]]
    for backend, states, keys in itertools.product(("memory", "serialized", "null"), mixed, lists):
        for how in [{}, {"expiration_time": 5}, {"ignore_expiration": True}]:
            yield backend, sixty, states, "get_multi", {"keys": keys, **how}
        for how in [{}, {"should_cache": False}, {"raises": True}, {"expiration_time": 1000}]:
            yield backend, sixty, states, "get_or_create_multi", {"keys": keys, **how}
    for backend in ("memory", "serialized"):
        keys = ["a", "b", "c", "d"]
        for states in mixed:
            yield backend, sixty, states, "get_or_create_multi", {"keys": keys, "short": 1}
            yield backend, {**sixty, "runner": True}, states, "get_or_create_multi", {"keys": keys}
            yield backend, {"expiration_time": None}, states, "get_or_create_multi", {"keys": keys}
            for method in ("set_multi", "delete_multi"):
                for keys_of in ([], ["a", "b"]):
                    yield backend, sixty, states, method, {"keys": keys_of}

            for locked in (["a"], ["b"], ["c"], ["d"], keys):
                for method in ("get_multi", "get_or_create_multi"):
                    yield backend, {**sixty, "locked": locked}, states, method, {"keys": keys}

    # Before and after the configuration.
    unset = {**sixty, "configured": False}
    for settings in (sixty, unset):
        yield "memory", settings, {}, "is_configured", {}
        for replaces in (False, True):
            yield "memory", settings, {}, "configure", {"replace_existing_backend": replaces}
    for method in ("get", "get_or_create", "set", "delete"):
        yield "memory", unset, {}, method, {}
    for proxies, replaced in itertools.product((0, 1, 2), (False, True)):
        yield "memory", sixty, {}, "actual_backend", {"proxies": proxies, "replaced": replaced}


# ---- cachetory

# What a key has: when it was set, and with what time to live.
LIVES = {
    "for ever": (30, None),
    "fresh": (10, 60),
    "none": (10, 60),
    "deadline": (60, 60),
    "expired": (100, 60),
}


class Cachetory:
    """One cache, prepared."""

    def __init__(self, backend, settings, states):
        global clock
        self.calls = []
        self.is_async = settings.get("tasks", False)
        kinds = (DummyBackend, AsyncDummy) if backend == "null" else (MemoryBackend, AsyncMemory)
        self.backend = kinds[self.is_async]()
        serializer = serializers.from_url("json://" if backend == "serialized" else "noop://")
        make = AsyncCache if self.is_async else Cache
        self.cache = make(serializer=serializer, backend=self.backend, prefix=settings.get("prefix", ""))
        self.other = make(serializer=serializer, backend=self.backend, prefix="other:")
        for key, state in sorted(states.items(), key=lambda item: -LIVES.get(item[1], (0,))[0]):
            if state in LIVES:
                ago, life = LIVES[state]
                clock = START - ago
                value = None if state == "none" else "old " + key
                self.done(self.cache.set(key, value, time_to_live=life and datetime.timedelta(seconds=life)))
            elif state == "undecodable":
                self.done(self.backend.set(settings.get("prefix", "") + key, "not json"))
        if "other" in settings:
            self.done(self.other.set("k", "other's"))
        clock = START

    def done(self, result):
        return asyncio.run(self.awaited(result)) if self.is_async else result

    @staticmethod
    async def awaited(result):
        return await result

    def creator(self, how):
        def create():
            global clock
            self.calls.append("k")
            if how.get("during"):
                self.seen = attempt(lambda: self.call(how["during"], {}))
            clock += how.get("takes", 0)
            if how.get("raises"):
                raise Refused
            return how.get("makes", "new k")

        return create

    def cached(self, how):
        span = self.span(how.get("ttl"))
        once = how.get("if_not_exists", False)
        options = {"make_key": lambda *_: "k", "time_to_live": span, "if_not_exists": once}
        if "exclude" in how:
            options["exclude"] = lambda key, value: how["exclude"]
        create = self.creator(how)
        if not self.is_async:
            return cached(self.cache, **options)(create)

        async def create_async():
            return create()

        return async_cached(self.cache, **options)(create_async)

    @staticmethod
    def span(seconds):
        return None if seconds is None else datetime.timedelta(seconds=seconds)

    def call(self, method, how):
        cache, done = self.cache, self.done
        if method == "get":
            missing = object()
            found = done(cache.get("k", missing))
            return [] if found is missing else [found]
        if method == "getitem":
            return [cache["k"]]
        if method == "get_many":
            found = done(cache.get_many(*how["keys"]))
            return [[found[key]] if key in found else [] for key in how["keys"]]
        if method == "set":
            span, once = self.span(how.get("ttl")), how.get("if_not_exists", False)
            return done(cache.set("k", how.get("value", "put"), time_to_live=span, if_not_exists=once))
        if method == "setitem":
            cache["k"] = "put"
            return None
        if method == "set_many":
            return done(cache.set_many({key: "put " + key for key in how["keys"]}))
        if method == "expire_in":
            return done(cache.expire_in("k", self.span(how["ttl"])))
        if method == "delete":
            return done(cache.delete("k"))
        if method == "delitem":
            del cache["k"]
            return None
        if method == "delete_many":
            return done(cache.delete_many(*how["keys"]))
        if method == "clear":
            return done(cache.clear())
        if method == "get of another prefix":
            return [done(self.other.get("k"))]
        if method == "cached":
            return [done(self.cached(how)())]
        if method == "purge":
            return done(self.cached(how).purge())
        raise ValueError(method)

    def stored(self, key):
        missing = object()
        found = attempt(lambda: self.done(self.cache.get(key, missing)))
        return [] if found is missing or isinstance(found, dict) else [found]


def run_cachetory(backend, settings, states, method, how):
    global clock
    cache = Cachetory(backend, settings, states)
    out = {"result": attempt(lambda: cache.call(method, how))}
    if how.get("during"):
        out["seen"] = cache.seen
    if "then" in how:
        after, then = how["then"]
        clock += after
        out["then"] = attempt(lambda: cache.call(then, {}))
    out["calls"] = cache.calls
    out["stored"] = {key: cache.stored(key) for key in sorted(set(states) | set(how.get("keys", [])))}
    return out


def cachetory_rows():
    named = ["absent", "for ever", "fresh", "none", "deadline", "expired"]
    single = {"memory": named, "serialized": named + ["undecodable"], "null": ["absent", "fresh"]}

    def each(method, arguments, settings={}, states=single):
        for backend in states:
            for state, how in itertools.product(states[backend], arguments):
                yield backend, settings, {"k": state}, method, how

    yield from each("get", [{}])
    yield from each("getitem", [{}])
    lives = [{"ttl": ttl, "then": [after, "get"]} for ttl, after in ((None, 30), (0, 0), (30, 29), (30, 30))]
    yield from each("set", lives)
    yield from each("set", [{"if_not_exists": True, "ttl": ttl} for ttl in (None, 30)])
    yield from each("set", [{"value": None}])
    yield from each("setitem", [{}])
    yield from each("expire_in", lives)
    yield from each("delete", [{}])
    yield from each("delitem", [{}])
    yield from each("clear", [{}])
    yield from each("cached", lives)
    making = [
        {"exclude": True},
        {"exclude": False},
        {"raises": True},
        {"takes": 5, "ttl": 30, "then": [27, "get"]},
        {"makes": None},
        {"if_not_exists": True},
    ]
    yield from each("cached", making)
    during = [{"during": what, "if_not_exists": once} for what in ("set", "delete") for once in (False, True)]
    yield from each("cached", during, {}, dict.fromkeys(("memory", "serialized", "null"), ["absent"]))
    yield from each("purge", [{}])
    tasks = {"tasks": True}
    yield from each("get", [{}], tasks)
    yield from each("cached", [{}, {"ttl": 30, "then": [30, "get"]}, {"exclude": True}, {"raises": True}], tasks)
    yield from each("delete", [{}], tasks)
    mixed = {"a": "fresh", "b": "absent", "c": "expired", "d": "none"}
    for backend, prefix in itertools.product(("memory", "serialized", "null"), ("", "p:")):
        settings = {"prefix": prefix}
        for keys in ([], ["a"], ["a", "b", "c", "d"], ["d", "c", "a", "c"]):
            yield backend, settings, mixed, "get_many", {"keys": keys}
            yield backend, settings, mixed, "set_many", {"keys": sorted(set(keys))}
            yield backend, settings, mixed, "delete_many", {"keys": keys}
        if prefix:
            yield from each("get", [{}], settings, {backend: ["absent", "fresh"]})
            if backend != "null":
                clear = {"then": [0, "get of another prefix"]}
                yield backend, {**settings, "other": True}, {"k": "fresh"}, "clear", clear


# ---- the table


def rows():
    for package, made, run in (
        ("dogpile.cache", dogpile_rows, run_dogpile),
        ("cachetory", cachetory_rows, run_cachetory),
    ):
        for backend, settings, states, method, how in made():
            row = {"package": package, "backend": backend, "settings": settings, "states": states}
            row |= {"method": method, "arguments": how} | run(backend, settings, states, method, how)
            # What is empty is left out.
            row = {name: value for name, value in row.items() if value != {} and (name != "calls" or value)}
            yield json.dumps(row, separators=(",", ":"))


def main():
    made = list(rows())
    assert len(made) == len(set(made)), "no row twice"
    if "--check" not in sys.argv[1:]:
        FILE.write_text("".join(row + "\n" for row in made))
        print(f"{len(made)} rows recorded")
        return
    recorded = FILE.read_text().splitlines()
    differ = [(new, old) for new, old in itertools.zip_longest(made, recorded) if new != old]
    for new, old in differ[:10]:
        print(f"recorded: {old}\nnow:      {new}")
    print(f"{len(made)} rows made again, {len(differ)} differ from what is recorded")
    sys.exit(1 if differ else 0)


main()
