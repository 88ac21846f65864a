"""The coordinator dies and starts again: builds go on, no finished step runs again, no line is told twice or never."""
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import procs
from harness.cluster import context
from harness.follow import read_until


def unique():
    return os.urandom(6).hex()


def restart(c, how=signal.SIGKILL):
    channel, http = c.api("/v1/info")["channel"][0], c.http
    c.coordinator.p.send_signal(how)
    c.coordinator.p.wait()
    c.start_coordinator(listen=http, channel=channel)


def lines_of(text, pattern):
    return re.findall(r"^#\d+ [0-9.]+ (%s)$" % pattern, text, re.M)


COUNT = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line-$i; sleep 0.1; done"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_running_step_goes_on(fresh, reg, ctx, tmp_path, how):
    c = fresh(workers=2)
    u = unique()
    d = ctx("FROM {0}\nRUN echo early-{1} > /e\nRUN --mount=type=cache,target=/c,id={1} echo x >> /c/log; {2}; wc -l < /c/log > /runs\n"
            .format(reg.ref("base:latest"), u, COUNT))
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), d)
    out = read_until(p, r"line-5\n")
    restart(c, how)
    out += p.communicate(timeout=60)[0].decode()
    assert p.returncode == 0, out
    assert (tmp_path / "o/runs").read_text().strip() == "1"
    assert lines_of(out, "line-[0-9]+") == ["line-%d" % (i + 1) for i in range(40)], out
    assert len(re.findall(r"load build definition", out)) == 1, out
    assert len(re.findall(r"^#\d+ \[2/3\] RUN echo early", out, re.M)) == 1 and "CACHED" not in out.split("line-5\n")[1], out
    done = [e for e in c.events() if e["type"] == "vertex" and e.get("completed_ns") and "RUN" in e["name"]]
    assert len(done) == 2 and not any(e["cached"] for e in done), done
    assert c.builds()[0]["status"] == "done"


@pytest.mark.parametrize("flags", [[], ["--no-cache"]])
def test_it_died_at_many_moments_of_a_long_build(fresh, reg, tmp_path, flags):
    """Every step counts its runs in a cache mount: each runs once, and every line is told once."""
    c = fresh(workers=2)
    u, n, base = unique(), 20, reg.ref("base:latest")
    run = "RUN --mount=type=cache,target=/c,id=%s-{0} echo {0}{1} >> /c/log; for k in 1 2 3; do echo said-{0}{1}-$k; sleep 0.05; done\n" % u
    text = "FROM %s AS side\n" % base + "".join(run.format("s", i) for i in range(n // 2))
    text += "RUN --mount=type=cache,target=/c,id=%s-s cp /c/log /side\nFROM %s\n" % (u, base)
    for i in range(n):
        text += ("COPY f%d /\n" % i if i % 5 == 4 else "") + run.format("m", i)
    text += "RUN --mount=type=cache,target=/c,id=%s-m cp /c/log /main\nCOPY --from=side /side /\n" % u
    d = context(tmp_path / "ctx", dict({"f%d" % i: os.urandom(20000) for i in range(n)}, Dockerfile=text))
    p = c.popen(*flags, "-o", "type=local,dest=%s" % (tmp_path / "o"), d)
    out = []
    reader = threading.Thread(target=lambda: out.append(p.communicate(timeout=240)[0].decode()))
    reader.start()
    procs.wait_for("the build is recorded", lambda: c.builds())
    for i in range(10):
        time.sleep((0.05, 0.9, 0.37, 1.21, 0.6)[i % 5])     # the moment is what is tested
        restart(c)
    reader.join()
    assert p.returncode == 0, out[0]
    assert (tmp_path / "o/main").read_text().split() == ["m%d" % i for i in range(n)]
    assert (tmp_path / "o/side").read_text().split() == ["s%d" % i for i in range(n // 2)]
    for letter, count in (("m", n), ("s", n // 2)):
        told = ["said-%s%d-%d" % (letter, i, k) for i in range(count) for k in (1, 2, 3)]
        assert lines_of(out[0], "said-%s[0-9-]+" % letter) == told, out[0]
    assert "CACHED" not in out[0]


def test_a_worker_that_dies_meanwhile_costs_its_step(fresh, reg, ctx, tmp_path):
    c = fresh(workers=2, grace="2s")
    d = ctx("FROM %s\nRUN echo early > /e\nRUN echo step-begun; sleep 3; echo done > /f\n" % reg.ref("base:latest"))
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), d)
    out = read_until(p, r"step-begun\n")
    victim = [w["name"] for w in c.api("/v1/workers")["workers"] if w["running"]][0]
    channel, http = c.api("/v1/info")["channel"][0], c.http
    c.coordinator.kill()
    c.workers[victim].kill()
    c.start_coordinator(listen=http, channel=channel)
    out += p.communicate(timeout=60)[0].decode()
    assert p.returncode == 0, out
    assert (tmp_path / "o/f").read_text() == "done\n"


def test_without_its_client_a_build_ends(fresh, reg, ctx):
    c = fresh(workers=1, grace="1s")
    secs = "97%d" % int.from_bytes(os.urandom(4), "big")
    p = c.popen("-o", "type=cacheonly", ctx("FROM %s\nRUN echo step-begun; sleep %s\n" % (reg.ref("base:latest"), secs)))
    read_until(p, r"step-begun\n")
    channel, http = c.api("/v1/info")["channel"][0], c.http
    c.coordinator.kill()
    p.kill()
    p.communicate()
    c.start_coordinator(listen=http, channel=channel)
    procs.wait_for("the build is over", lambda: c.builds()[0]["status"] == "canceled")
    procs.wait_for("no slot is taken", lambda: not any(w["running"] for w in c.api("/v1/workers")["workers"]))
    procs.wait_for("the step is gone", lambda: subprocess.run(["pgrep", "-f", "sleep " + secs], capture_output=True).returncode == 1)


def test_interrupt_after_a_restart_cancels(fresh, reg, ctx):
    c = fresh(workers=1)
    p = c.popen("-o", "type=cacheonly", ctx("FROM %s\nRUN echo step-begun; sleep 300\n" % reg.ref("base:latest")))
    read_until(p, r"step-begun\n")
    restart(c)
    procs.wait_for("the worker is back", lambda: any(w["running"] for w in c.api("/v1/workers")["workers"]))
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=30)
    assert p.returncode == 130
    assert c.builds()[0]["status"] == "canceled"


def test_two_clients_of_one_step_each_hear_every_line_once(fresh, reg, ctx, tmp_path):
    c = fresh(workers=2)
    d = ctx("FROM {0}\nRUN --mount=type=cache,target=/c,id={1} echo x >> /c/log; {2}; wc -l < /c/log > /runs\n".format(reg.ref("base:latest"), unique(), COUNT))
    clients = [c.popen("-o", "type=local,dest=%s" % (tmp_path / "a"), d)]
    outs = [read_until(clients[0], r"line-5\n")]
    clients.append(c.popen("-o", "type=local,dest=%s" % (tmp_path / "b"), d))
    outs.append(read_until(clients[1], r"line-9\n"))
    restart(c)
    for i, p in enumerate(clients):
        outs[i] += p.communicate(timeout=60)[0].decode()
        assert p.returncode == 0, outs[i]
        assert lines_of(outs[i], "line-[0-9]+") == ["line-%d" % (k + 1) for k in range(40)], outs[i]
        assert (tmp_path / "ab"[i] / "runs").read_text().strip() == "1"


def test_a_coordinator_that_lost_its_store_says_so(fresh, reg, ctx):
    c = fresh(workers=1)
    secs = "96%d" % int.from_bytes(os.urandom(4), "big")
    p = c.popen("-o", "type=cacheonly", ctx("FROM %s\nRUN echo step-begun; sleep %s\n" % (reg.ref("base:latest"), secs)))
    read_until(p, r"step-begun\n")
    channel, http = c.api("/v1/info")["channel"][0], c.http
    c.coordinator.kill()
    for name in os.listdir(c.path("coordinator")):
        if name.startswith("state.db"):
            os.unlink(c.path("coordinator", name))
    c.start_coordinator(listen=http, channel=channel)
    out = p.communicate(timeout=30)[0].decode()
    assert p.returncode == 3 and "does not know the build" in out, out
    procs.wait_for("the step is gone", lambda: subprocess.run(["pgrep", "-f", "sleep " + secs], capture_output=True).returncode == 1)
