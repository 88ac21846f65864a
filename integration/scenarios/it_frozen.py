"""Processes that are stopped, not dead: their connections stay, and they come back."""
import base64
import os
import signal
import time

from harness import procs
from harness.follow import busy, says, started, until


def test_a_frozen_worker_is_given_up_in_time_and_its_result_refused(fresh, reg, tmp_path, ctx):
    c = fresh(workers=2, grace="3s")
    # What the step writes tells which run of it is in the result.
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx(
        "FROM %s\nRUN cat /proc/sys/kernel/random/uuid > /f; echo ran $(cat /f); sleep 2\n" % reg.ref("base:latest")))
    build = started(c, p)
    def printed(e):
        # The log also tells, in words of the coordinator, why the step runs again.
        return e["type"] == "log" and base64.b64decode(e["data"]).startswith(b"ran ")
    first = base64.b64decode(until(c, build, printed)["data"]).split()[1].decode()
    victim = c.workers[busy(c)[0]]
    os.kill(victim.p.pid, signal.SIGSTOP)
    try:
        frozen = time.monotonic()
        second = base64.b64decode(until(c, build, lambda e: printed(e) and not says(first)(e))["data"]).split()[1].decode()
        took = time.monotonic() - frozen
        # The step of the frozen worker has ended meanwhile: it has a result to tell as soon as it can.
    finally:
        os.kill(victim.p.pid, signal.SIGCONT)
    out = p.communicate(timeout=120)[0].decode()
    assert p.returncode == 0, out
    assert (tmp_path / "o/f").read_text().strip() == second
    assert took < 10, "the step began elsewhere %.1f s after its worker froze" % took
    # It comes back, as a worker like any other.
    procs.wait_for("both workers are connected", lambda: [w["state"] for w in c.api("/v1/workers")["workers"]] == ["up", "up"])
    c.build("-o", "type=cacheonly", ctx("FROM {0} AS a\nRUN echo a; sleep 1\nFROM {0} AS b\nRUN echo b; sleep 1\nFROM {0} AS c\nRUN echo c; sleep 1\n"
                                        "FROM scratch\nCOPY --from=a / /a\nCOPY --from=b / /b\nCOPY --from=c / /c\n".format(reg.ref("base:latest"))))


def test_a_layer_of_a_frozen_worker_is_made_again(fresh, reg, tmp_path, ctx):
    """What only it has is not waited for longer than it is."""
    c = fresh(workers=2, grace="3s")
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx(
        "FROM {0} AS a\nRUN echo a-ran; echo a > /a\nFROM {0} AS b\nRUN echo b-begun; sleep 2; echo b > /b\n"
        "FROM scratch\nCOPY --from=b /b /\nCOPY --from=a /a /\n".format(reg.ref("base:latest"))))
    build = started(c, p)
    a = until(c, build, lambda e: e["type"] == "vertex" and "RUN echo a-ran" in e["name"] and e.get("completed_ns"))["worker"]
    until(c, build, says("b-begun"))
    frozen = time.monotonic()
    os.kill(c.workers[a].p.pid, signal.SIGSTOP)
    try:
        out = p.communicate(timeout=100)[0].decode()
        took = time.monotonic() - frozen
    finally:
        os.kill(c.workers[a].p.pid, signal.SIGCONT)
    assert p.returncode == 0, out
    assert {n: (tmp_path / "o" / n).read_text() for n in "ab"} == {"a": "a\n", "b": "b\n"}
    assert took < 30, "the build took %.1f s after a worker froze" % took


def test_a_short_freeze_costs_nothing(fresh, reg, tmp_path, ctx):
    """Within the grace the worker's connection is made again, and its step goes on."""
    c = fresh(workers=2, grace="20s")
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx("FROM %s\nRUN echo step-begun; sleep 3; echo x > /f\n" % reg.ref("base:latest")))
    build = started(c, p)
    until(c, build, says("step-begun"))
    victim = c.workers[busy(c)[0]]
    os.kill(victim.p.pid, signal.SIGSTOP)
    os.kill(victim.p.pid, signal.SIGCONT)
    out = p.communicate(timeout=120)[0].decode()
    assert p.returncode == 0, out
    assert len([e for e in c.events(build) if says("step-begun")(e)]) == 1


def test_a_heartbeat_that_cannot_keep_the_grace_is_refused(tmp_path):
    d = procs.Daemon([procs.program("bxc-coordinator"), "--state-dir", str(tmp_path / "s"), "--listen", "127.0.0.1:0", "--channel-listen",
                      "tcp://127.0.0.1:0", "--peer-grace", "5s", "--peer-heartbeat", "2s"], str(tmp_path / "log"))
    try:
        d.start()
    except AssertionError as e:
        assert "peer-heartbeat: three heartbeats are longer than peer_grace" in str(e), e
    else:
        d.stop()
        raise AssertionError("it started")
