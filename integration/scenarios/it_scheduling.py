"""What the scheduler learns, and what it does with it."""
from harness import procs


def starts(c):
    """Names of steps in the order in which they began to run."""
    seen = {}
    for e in c.events():
        if e["type"] == "vertex" and e.get("started_ns") and not e["cached"] and "RUN" in e["name"]:
            seen.setdefault(e["name"].split("RUN ")[1], int(e["started_ns"]))
    return sorted(seen, key=seen.get)


def restart(c):
    chan, http = c.api("/v1/info")["channel"][0], c.http
    c.coordinator.kill()
    c.start_coordinator(listen=http, channel=chan)
    procs.wait_for("the workers are back", lambda: len(c.api("/v1/workers")["workers"]) == c.n_workers)


def test_steps_that_took_long_begin_first_the_next_time_also_after_a_restart(fresh, reg, ctx):
    c = fresh(workers=1, worker_args=["--slots", "1"])
    base = reg.ref("base:latest")
    where = ctx("FROM {0} AS a\nRUN true > /a\nFROM {0} AS b\nRUN sleep 1 > /b\nFROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n".format(base))
    c.build("-o", "type=cacheonly", where)
    assert starts(c) == ["true > /a", "sleep 1 > /b"]
    restart(c)
    c.build("--no-cache", "-o", "type=cacheonly", where)
    assert starts(c) == ["sleep 1 > /b", "true > /a"]


def test_how_fast_layers_come_is_measured(fresh, reg, ctx):
    c = fresh(workers=2)
    base = reg.ref("base:latest")
    # Two that make something large at the same time are on two workers; one needs both.
    big = "RUN dd if=/dev/urandom of=/{0} bs=1M count=4 2>&1; sleep 1\n"
    where = ctx(("FROM {0} AS a\n" + big.format("x") + "FROM {0} AS b\n" + big.format("y") + "FROM {0}\nCOPY --from=a /x /\nCOPY --from=b /y /\n").format(base))
    c.build("-o", "type=cacheonly", where)
    assert len(set(c.workers_of().values())) == 2, c.workers_of()
    procs.wait_for("a transfer is told of", lambda: [w for w in c.api("/v1/workers")["workers"] if w["bandwidth"].get("peer", 0) > 0])
