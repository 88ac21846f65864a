"""What workers keep, and to have it removed."""
import json
import os
import re

from harness import procs
from harness.cluster import context
from harness.follow import read_until


def kept(c, *filters):
    args = [x for f in filters for x in ("--filter", f)]
    return [json.loads(line) for line in c.bxc("--builder=cluster", "du", "--format", "json", *args, check=True).out.splitlines()]


def prune(c, *args, **kw):
    return c.bxc("--builder=cluster", "prune", *args, **kw)


def test_all_workers_tell_what_they_keep_and_give_it_up(fresh, reg, ctx, tmp_path):
    c = fresh(workers=2)
    d = ctx("FROM {0} AS a\nRUN head -c 3000000 /dev/urandom > /a; sleep 1\nFROM {0}\nRUN head -c 2000000 /dev/urandom > /b; sleep 1\n"
            "RUN --mount=type=cache,target=/c,id=my/cache head -c 1000000 /dev/urandom > /c/x\nCOPY --from=a /a /a\n".format(reg.ref("base:latest")))
    c.build("-o", "type=cacheonly", d)
    items = kept(c)
    assert {i["worker"] for i in items} == {"worker-1", "worker-2"}
    cache, = [i for i in items if i["kind"] == "cache"]
    assert cache["about"] == "my/cache" and 1000000 <= cache["bytes"] < 1100000
    layers = [i for i in items if i["kind"] == "layer"]
    assert any(3000000 <= i["bytes"] < 7000000 for i in layers) and any(i["shared"] for i in layers)
    table = c.bxc("--builder=cluster", "du", check=True).out
    assert re.match(r"ID +RECLAIMABLE +SIZE +LAST ACCESSED +TYPE +WORKER\n", table) and re.search(r"^Total: +\d+ MB$", table, re.M), table
    assert "Cache id:     my/cache" in c.bxc("--builder=cluster", "du", "--verbose", "--filter", "type=exec.cachemount", check=True).out
    assert kept(c, "until=1h") == [] and [i["id"] for i in kept(c, "id=" + cache["id"][:6])] == [cache["id"]]
    # It asks first, and does what it is told.
    prune(c, check=False).fails(2, "--force")
    prune(c, "-f", "--filter", "colour=red", check=False).fails(2, "filter 'colour=red'")
    assert cache["id"][:25] in prune(c, "-f", "--filter", "type=exec.cachemount", check=True).out
    assert not kept(c, "type=exec.cachemount")
    prune(c, "-f", "--max-used-space", "4mb", check=True)
    for w in ("worker-1", "worker-2"):
        assert sum(i["bytes"] for i in kept(c) if i["worker"] == w) <= 4000000
    out = prune(c, "--all", "--force", check=True).out
    assert re.search(r"^Total: +\d", out, re.M) and kept(c) == []
    # Nothing is counted on that has gone.
    r = c.build("-o", "type=local,dest=%s" % (tmp_path / "o"), d)
    assert not any("RUN head" in n for n in r.cached()) and os.path.getsize(tmp_path / "o" / "b") == 2000000


def test_what_a_build_needs_stays(fresh, reg, tmp_path):
    c = fresh(workers=1)
    text = "FROM %s\nRUN echo kept > /first\nRUN --mount=type=cache,target=/c,id=c touch /c/x; echo started; sleep 3; cat /first > /c/seen; cat /c/seen /c/x > /second\n" % reg.ref("base:latest")
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), context(tmp_path / "ctx", {"Dockerfile": text}))
    out = read_until(p, r"\d started\n")
    assert {i["kind"] for i in kept(c) if i.get("in_use")} == {"layer", "cache"}
    prune(c, "--all", "--force", check=True)
    assert {i["kind"] for i in kept(c)} == {"layer", "cache"}
    out += p.communicate(timeout=60)[0].decode()
    assert p.returncode == 0, out
    assert (tmp_path / "o/second").read_text() == "kept\n"
    assert len(re.findall(r"^#\d+ \[2/3\] RUN", out, re.M)) == 1, "it was made again:\n" + out


def test_a_worker_that_does_not_answer_is_named(fresh, reg, ctx):
    c = fresh(workers=2, grace="2s")
    c.build("-o", "type=cacheonly", ctx("FROM %s\nRUN true\n" % reg.ref("base:latest")))
    os.kill(c.workers["worker-2"].p.pid, 19)
    try:
        r = c.bxc("--builder=cluster", "du", check=False)
    finally:
        os.kill(c.workers["worker-2"].p.pid, 18)
    r.fails(1, "ERROR: worker worker-2: it has gone", "Total:")
    procs.wait_for("it is back", lambda: [w["state"] for w in c.api("/v1/workers")["workers"]] == ["up", "up"])
