"""Parts die; builds go on, or end cleanly."""
import os
import signal
import subprocess

from harness import procs
from harness.cluster import context
from harness.follow import read_until


def test_a_worker_killed_in_a_step_costs_only_that_step(fresh, reg, tmp_path):
    c = fresh(workers=2, grace="1s")
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s AS a\nRUN echo early > /early\nFROM a\nRUN echo started; sleep 8; echo finished > /done\n" % reg.ref("base:latest")})
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx)
    out = read_until(p, r"\d started\n")
    victims = [n for n, d in c.workers.items() if subprocess.run(["pgrep", "-P", str(d.p.pid)], capture_output=True).stdout]
    assert len(victims) == 1, victims
    c.workers[victims[0]].kill()
    rest = p.communicate(timeout=90)[0].decode()
    assert p.returncode == 0, out + rest
    assert "the worker that ran it was lost" in rest, rest
    assert (tmp_path / "o/done").read_text() == "finished\n" and (tmp_path / "o/early").read_text() == "early\n"
    other = ({"worker-1", "worker-2"} - set(victims)).pop()
    ran = [e for e in c.events() if e["type"] == "vertex" and "finished" in e["name"]]
    assert ran[-1].get("worker") == other, ran


def test_interrupt_cancels_and_leaves_nothing_running(two, reg, tmp_path):
    secs = "7%s" % int.from_bytes(os.urandom(3), "big")
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN echo started; sleep %s\n" % (reg.ref("base:latest"), secs)})
    p = two.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx)
    read_until(p, r"\d started\n")
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=30)
    assert p.returncode == 130
    procs.wait_for("the step is gone", lambda: subprocess.run(["pgrep", "-f", "sleep " + secs], capture_output=True).returncode == 1)
    assert two.builds()[0]["status"] == "canceled"


def test_a_restarted_coordinator_keeps_cache_and_history(fresh, reg, tmp_path):
    c = fresh(workers=1)
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN echo once > /f\n" % reg.ref("base:latest")})
    c.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx)
    before = c.builds()[0]["id"]
    chan = c.api("/v1/info")["channel"][0]
    http = c.http
    c.coordinator.kill()
    c.start_coordinator(listen=http, channel=chan)
    procs.wait_for("the worker is back", lambda: c.api("/v1/workers")["workers"])
    r = c.build("-o", "type=local,dest=%s" % (tmp_path / "o2"), ctx)
    assert any("RUN echo once" in n for n in r.cached())
    assert before in [b["id"] for b in c.builds()]
    assert c.events(before)[-1]["type"] == "build.done"


def test_steps_that_no_worker_serves_fail_in_time_and_the_coordinator_goes_on(fresh, reg, ctx):
    c = fresh(workers=0)
    base = reg.ref("base:latest")
    r = c.build("-o", "type=cacheonly", ctx("FROM {0} AS a\nRUN echo 1 > /a\nFROM {0} AS b\nRUN echo 2 > /b\nFROM {0}\nCOPY --from=a /a /\nCOPY --from=b /b /\n".format(base)), check=False)
    r.fails(1, "no worker serves", "no worker at all")
    assert c.builds()[0]["status"] == "failed"


def test_what_is_known_of_contexts_may_be_lost_or_damaged(fresh, reg, tmp_path):
    c = fresh(workers=1)
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY src /src\n", **{"src/%d" % i: "%d" % i for i in range(600)}})

    def build():
        out = tmp_path / ("o%d" % len(os.listdir(tmp_path)))
        r = c.build("-o", "type=local,dest=%s" % out, ctx)
        return r, {n: (out / "src" / n).read_text() for n in os.listdir(out / "src")}
    want = {str(i): str(i) for i in range(600)}
    assert build()[1] == want
    caches = os.path.join(c.path("home"), ".cache/bxc/contexts")
    index, = os.listdir(caches)
    index = os.path.join(caches, index)
    assert os.stat(index).st_mode & 0o777 == 0o600
    # The coordinator no longer has the tree that changes are told of.
    for top, _, names in os.walk(c.path("coordinator", "blobs")):
        for n in names:
            os.unlink(os.path.join(top, n))
    (tmp_path / "ctx/src/5").write_text("five")
    want["5"] = "five"
    assert build()[1] == want
    # It has another one under its name.
    for top, _, names in os.walk(c.path("coordinator", "blobs")):
        for n in names:
            with open(os.path.join(top, n), "r+b") as f:
                f.seek(100)
                f.write(b"damaged")
    (tmp_path / "ctx/src/6").write_text("six")
    want["6"] = "six"
    r, got = build()
    assert got == want
    # The client's own: cut, of somebody else, a folder.
    with open(index, "r+b") as f:
        f.truncate(os.path.getsize(index) // 2)
    assert build()[1] == want
    os.chmod(index, 0o666)
    assert build()[1] == want
    os.unlink(index)
    os.mkdir(index)
    assert build()[1] == want
