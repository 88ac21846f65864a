"""What the scheduler learns, and what it does with it."""
import json
import re
import signal
import time

from harness import procs
from harness import web as webs
from harness.cluster import context
from harness.follow import read_until


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


def logged(c, event):
    with open(c.path("coordinator.log")) as f:
        return [line for line in f if event in line]


def test_inputs_of_the_next_step_come_while_the_one_before_it_runs(fresh, reg, ctx, tmp_path):
    c = fresh(workers=2, worker_args=["--slots", "1"], coordinator_args=["--allow-insecure-entitlement", "network.host"])
    web = webs.Web().start()
    gate = web.url + "/gate"
    try:
        where = ctx("""
            FROM {0} AS a
            RUN dd if=/dev/urandom of=/big bs=1M count=4 2>/dev/null; echo a-is-made
            FROM {0} AS b
            RUN --network=host until wget -q -O /gate {1}; do sleep 0.1; done
            COPY --from=a /big /big
            """.format(reg.ref("base:latest"), gate))
        p = c.popen("--allow", "network.host", "-o", "type=local,dest=%s" % (tmp_path / "o"), where)
        done = procs.wait_for("the first stage is where the second runs", lambda: logged(c, "prefetch.done"))
        web.put("/gate", "open")
        out = p.communicate(timeout=60)[0].decode()
        assert p.returncode == 0, out
        assert (tmp_path / "o/big").stat().st_size == 4 << 20
        # Both steps of the last stage ran at the same place, and what was brought was brought there.
        ran = {n: w for n, w in c.workers_of().items() if "RUN dd" in n or "until wget" in n or "COPY" in n}
        there = {w for n, w in ran.items() if "RUN dd" not in n}
        assert len(set(ran.values())) == 2 and len(there) == 1, ran
        assert len(done) == 1 and there.pop() in done[0]
        # Nothing is brought for a build that is over.
        web.files.clear()
        p = c.popen("--allow", "network.host", "--no-cache", "-o", "type=cacheonly", where)
        read_until(p, r"until wget")
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=60)
        procs.wait_for("nobody is busy", lambda: not busy(c))
    finally:
        web.stop()


def state(c, name):
    return {w["name"]: w["state"] for w in c.api("/v1/workers")["workers"]}.get(name)


def busy(c):
    return [w["name"] for w in c.api("/v1/workers")["workers"] if w["running"]]


def test_a_drained_worker_ends_its_step_and_gets_nothing_new_also_after_a_restart(fresh, reg, ctx, tmp_path):
    c = fresh(workers=2)
    base = reg.ref("base:latest")
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx("FROM %s\nRUN echo started; sleep 4; echo ended > /done\n" % base))
    read_until(p, r"\d started\n")
    name, = busy(c)
    other = ({"worker-1", "worker-2"} - {name}).pop()
    r = c.bxc("--builder=cluster", "worker", "drain", name, check=True)
    assert r.out == name + "\n"
    assert state(c, name) == "draining"
    # Whatever there is to be done is done by the other one.
    c.build("-o", "type=cacheonly", ctx("FROM %s\nRUN echo 1 > /a\nRUN echo 2 > /b\nRUN echo 3 > /c\n" % base))
    assert set(c.workers_of().values()) == {other}, c.workers_of()
    out = p.communicate(timeout=60)[0].decode()
    assert p.returncode == 0 and (tmp_path / "o/done").read_text() == "ended\n", out
    procs.wait_for("it is drained", lambda: state(c, name) == "drained")
    rows = [json.loads(line) for line in c.bxc("--builder=cluster", "worker", "ls", "--format", "json", check=True).out.splitlines()]
    assert {r["name"]: r["state"] for r in rows} == {name: "drained", other: "up"}
    look = c.bxc("--builder=cluster", "worker", "inspect", name, check=True).out
    assert "State:      drained" in look and "Only here:" in look, look
    restart(c)
    assert state(c, name) == "drained"
    # A worker that comes back under its name is drained still, and listed while it is away.
    c.workers[name].stop()
    procs.wait_for("it is gone", lambda: state(c, name) is None)
    assert "absent" in c.bxc("--builder=cluster", "worker", "ls", check=True).out
    c.add_worker(name)
    procs.wait_for("it is back", lambda: state(c, name) == "drained")
    c.bxc("--builder=cluster", "worker", "drain", "--undo", name, check=True)
    assert state(c, name) == "up"
    c.bxc("--builder=cluster", "worker", "drain", other, check=True)
    c.build("-o", "type=cacheonly", ctx("FROM %s\nRUN echo another\n" % base))
    assert set(c.workers_of().values()) == {name}
    c.bxc("--builder=cluster", "worker", "drain", "nobody").fails(1, "no worker 'nobody' is connected")
    c.bxc("--builder=cluster", "worker", "drain", "a/b").fails(2, "is no name of a worker")


def test_steps_wait_for_workers_that_are_drained_and_are_told_so(fresh, reg, ctx):
    c = fresh(workers=1)
    c.bxc("--builder=cluster", "worker", "drain", "worker-1", check=True)
    r = c.build("-o", "type=cacheonly", ctx("FROM %s\nRUN true\n" % reg.ref("base:latest")), check=False)
    r.fails(1, "no worker serves", "those that serve it are drained")


def test_a_terminated_worker_ends_its_step_first(fresh, reg, ctx, tmp_path):
    c = fresh(workers=1)
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx("FROM %s\nRUN echo started; sleep 3; echo ended > /done\n" % reg.ref("base:latest")))
    read_until(p, r"\d started\n")
    c.workers["worker-1"].p.send_signal(signal.SIGTERM)
    # Who comes meanwhile makes the output.
    c.add_worker("worker-2")
    out = p.communicate(timeout=60)[0].decode()
    assert "was lost" not in out, out
    assert c.workers["worker-1"].p.wait(timeout=30) == 0
    assert [e for e in c.events() if e["type"] == "vertex" and "echo ended" in e["name"]][-1].get("error") is None


def test_a_terminated_worker_does_not_wait_for_ever(fresh, reg, ctx):
    c = fresh(workers=1, worker_args=["--drain-timeout", "1s"])
    p = c.popen("-o", "type=cacheonly", ctx("FROM %s\nRUN echo started; sleep 600\n" % reg.ref("base:latest")))
    read_until(p, r"\d started\n")
    begun = time.monotonic()
    c.workers["worker-1"].p.send_signal(signal.SIGTERM)
    assert c.workers["worker-1"].p.wait(timeout=30) == 0
    assert 1 <= time.monotonic() - begun < 20
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=30)


def test_a_step_that_waits_says_why(fresh, reg, ctx, tmp_path):
    c = fresh(workers=1)
    text = "FROM %s\nRUN echo started {0}; i=0; while [ ! -e /proc/sys/kernel/none ] && [ $i -lt {0} ]; do i=$((i+1)); sleep 0.1; done\n" % reg.ref("base:latest")
    first = [c.popen("-o", "type=cacheonly", context(tmp_path / str(n), {"Dockerfile": text.format(n)})) for n in (60, 61)]
    for p in first:
        read_until(p, r"\d started \d+\n")
    p = c.popen("-o", "type=cacheonly", context(tmp_path / "waits", {"Dockerfile": text.format(1)}))
    out = read_until(p, r"#\d+ waiting: all workers for \S+ are busy\n")
    assert "RUN echo started 1;" in out, out
    build = c.builds()[0]["id"]
    told, = c.api("/v1/builds/" + build)["waiting"]
    assert told["name"].startswith("[2/2] RUN echo started 1;") and told["reason"].endswith("are busy"), told
    assert re.search(r"^Waiting: +\[2/2\] RUN .*: all workers for \S+ are busy \(\d+s\)$", c.bxc("--builder=cluster", "history", "inspect", build, check=True).out, re.M)
    assert [q.wait(timeout=60) for q in [p] + first] == [0, 0, 0]
    assert "waiting" not in c.api("/v1/builds/" + build)
