"""A process that shares a region with others over Redis or memcached, for tests/python_shared.rs: it does what it reads.

    scripts/python.sh shared BACKEND URL LEASE LOG      BACKEND: dogpile.cache.redis, dogpile.cache.pymemcache, …
    scripts/python.sh shared cachetory URL              values of cachetory's, without a lock
    scripts/python.sh shared run                        ["run", CODE]: Python, as the chapter on sharing has it

Each line of its input is a command in JSON, each line of its output the answer:

    ["create", KEY, FRESH, SECONDS, GENERATION]   get_or_create: what it returned. The creator appends a line to LOG.
    ["hold", KEY]                                 get_or_create whose creator never ends; answers when that has begun
    ["get", KEY]                                  [value, time of creation], or null
    ["set", KEY, VALUE], ["delete", KEY]          null
    ["get_multi", [KEY, …]], ["set_multi", {KEY: VALUE}]
    ["locked", KEY]                               whether the key is locked
"""

import json
import sys
import time


def answer(value):
    print(json.dumps(value), flush=True)


class Shared:
    def __init__(self, backend, url, lease, log):
        from dogpile.cache import make_region

        self.log = log
        arguments = {"url": url, "distributed_lock": True, "lock_timeout": int(lease)}
        if "redis" in backend:
            # A lock is released by the thread that took it: by default that can't be checked with a distributed one.
            arguments["thread_local_lock"] = False
        # The backends for memcached leave bytes as they are, and have no serializer unless they are given one.
        self.region = make_region(
            serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads
        ).configure(backend, arguments=arguments)

    def create(self, key, fresh, seconds, generation):
        def creator():
            with open(self.log, "a", encoding="ascii") as log:
                log.write(f"{generation} python\n")
            time.sleep(seconds)
            return {"generation": generation, "by": "python"}

        return self.region.get_or_create(key, creator, expiration_time=fresh)

    def hold(self, key):
        def creator():
            answer("holding")
            while True:
                time.sleep(1)

        self.region.get_or_create(key, creator, expiration_time=60)

    def get(self, key):
        value = self.region.get_value_metadata(key)
        return [value.payload, value.metadata["ct"]] if value else None

    def set(self, key, value):
        self.region.set(key, value)

    def delete(self, key):
        self.region.delete(key)

    def get_multi(self, keys):
        return [value or None for value in self.region.get_multi(keys)]

    def set_multi(self, values):
        self.region.set_multi(values)

    def locked(self, key):
        return self.region.key_is_locked(key)


class Cachetory:
    def __init__(self, url):
        from cachetory.backends.sync import from_url
        from cachetory.caches.sync import Cache
        from cachetory.serializers import from_url as serializer

        self.cache = Cache(serializer=serializer("json://"), backend=from_url(url))

    def get(self, key):
        return self.cache.get(key)

    def set(self, key, value):
        self.cache.set(key, value)

    def delete(self, key):
        self.cache.delete(key)


class Run:
    def run(self, code):
        exec(code, {})


match sys.argv[1:]:
    case ["run"]:
        peer = Run()
    case ["cachetory", url]:
        peer = Cachetory(url)
    case arguments:
        peer = Shared(*arguments)
answer("ready")
for line in sys.stdin:
    command, *arguments = json.loads(line)
    answer(getattr(peer, command)(*arguments))
