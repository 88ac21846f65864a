"""Who is told to end, ends at once, whatever it waits for."""
import os
import signal
import subprocess

import pytest

from harness import procs
from harness.follow import read_until

BOUND = 10  # seconds on a busy machine; who does not look at its signals waits for a grace of 30 s, or for ever


def ends(p, sig):
    p.send_signal(sig)
    try:
        return (p.communicate(timeout=BOUND)[0] or b"").decode()
    except subprocess.TimeoutExpired:
        p.kill()
        p.communicate()
        raise AssertionError("still there after %s" % sig.name)


@pytest.fixture
def stop():
    """Stops daemons, and lets them go on when the test is over."""
    pids = []

    def signal_it(d, how):
        pids.append(d.p.pid)
        os.kill(d.p.pid, how)
        if how == signal.SIGKILL:
            d.p.wait(procs.TIMEOUT)
    yield signal_it
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_a_client_and_a_worker_whose_coordinator_is_gone(fresh, reg, ctx, stop, how, sig):
    c = fresh(workers=1)
    p = c.popen("-o", "type=cacheonly", ctx("FROM %s\nRUN echo step-begun; sleep 300\n" % reg.ref("base:latest")))
    read_until(p, r"step-begun\n")
    stop(c.coordinator, how)
    if how == signal.SIGKILL:
        procs.wait_for("the loss is seen", lambda: "worker.connection_lost" in procs.tail(c.path("worker-1.log"), 50))
    out = ends(p, sig)
    assert p.returncode == 130 and "builder 'cluster' does not answer: build " in out, out
    # A frozen coordinator may only be slow: the step of a worker that is to leave goes on then, for --drain-timeout.
    ends(c.workers["worker-1"].p, signal.SIGINT if how == signal.SIGSTOP else sig)
    assert c.workers["worker-1"].p.returncode == 0


def test_a_worker_that_drains_when_its_coordinator_dies(fresh, reg, ctx, stop):
    c = fresh(workers=1)
    p = c.popen("-o", "type=cacheonly", ctx("FROM %s\nRUN echo step-begun; sleep 300\n" % reg.ref("base:latest")))
    read_until(p, r"step-begun\n")
    w = c.workers["worker-1"].p
    w.send_signal(signal.SIGTERM)
    procs.wait_for("it is leaving", lambda: [x["state"] for x in c.api("/v1/workers")["workers"]] == ["draining"])
    stop(c.coordinator, signal.SIGKILL)
    assert w.wait(BOUND) == 0
    ends(p, signal.SIGTERM)


def test_programs_whose_first_question_is_not_answered(fresh, ctx, stop, tmp_path):
    c = fresh(workers=0)
    stop(c.coordinator, signal.SIGSTOP)
    for sig in (signal.SIGTERM, signal.SIGINT):
        log = tmp_path / ("log%d" % sig)
        p = c.popen("-o", "type=cacheonly", ctx("FROM scratch\nCOPY Dockerfile /\n"))
        w = subprocess.Popen([procs.program("bxc-worker"), "--name", "w", "--state-dir", str(tmp_path / "w"), "--coordinator", "http://" + c.http,
                              "--token-file", c.path("coordinator", "worker.token")], env=procs.path_env(), stdout=subprocess.DEVNULL, stderr=open(log, "wb"))
        for x in (p, w):
            procs.wait_for("it has asked", lambda: connected(x.pid))
        ends(p, sig)
        ends(w, sig)


def connected(pid):
    out = subprocess.run(["ss", "-Htnp"], capture_output=True, text=True, check=True).stdout
    return "pid=%d," % pid in out
