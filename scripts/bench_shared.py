"""Times dogpile.cache over the Redis server at a port: one line for each operation, its name and nanoseconds."""

import json
import statistics
import sys
import time

from dogpile.cache import make_region

ROUNDS, CALLS = 21, 200

region = make_region(
    serializer=lambda value: json.dumps(value).encode(),
    deserializer=json.loads,
).configure(
    "dogpile.cache.redis",
    expiration_time=600,
    arguments={
        "host": "127.0.0.1",
        "port": int(sys.argv[1]),
        "redis_expiration_time": 3600,
        "distributed_lock": True,
        "lock_timeout": 30,
        "thread_local_lock": False,
    },
)
value = "v" * 100
region.set("theirs", value)
count = iter(range(10**9))


def median(call):
    rounds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter_ns()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter_ns() - begun) / CALLS)
    return statistics.median(rounds)


print("get", median(lambda: region.get("theirs")))
print("set", median(lambda: region.set("theirs", value)))
print("create", median(lambda: region.get_or_create(f"theirs:{next(count)}", lambda: value)))
