"""Builds that are looked at, followed and ended by others than who started them: ps, logs, cancel, attach, history, --detach."""
import json
import os
import re
import signal
import subprocess
import urllib.error

import pytest

from harness import procs

@pytest.fixture
def c(two):
    return lambda *a, **kw: two.bxc("--builder=cluster", *a, **kw)


def running(two):
    return [b["id"] for b in two.builds() if b["status"] == "running"]


def wait_done(two, build):
    return procs.wait_for("the build ends", lambda: next(b for b in two.builds() if b["id"] == build and b["status"] != "running"))


def long_build(reg, secs="3600"):
    return "FROM %s\nRUN echo step-begun; sleep %s; echo step-ended\n" % (reg.ref("base:latest"), secs)


def begun(c, build):
    procs.wait_for("the step runs", lambda: says("step-begun", c("logs", build, check=True).out))


def says(text, out):
    """As output of a step; its command line has the words too."""
    return re.search(r"^#\d+ [\d.]+ %s$" % text, out, re.M)


def test_detached_build_goes_on_alone(two, c, reg, ctx, tmp_path):
    """The file of the context and the output pass through the process in the background."""
    r = c("build", "--detach", "-o", tmp_path / "out", ctx("FROM %s\nCOPY f /f\nRUN sleep 1; cat /f > /g\n" % reg.ref("base:latest"), f="x\n"), check=True)
    build = r.out.strip()
    assert re.fullmatch(r"b-[0-9a-f]+", build) and running(two) == [build], r.text
    # Attached, the end comes with the exit code of the build.
    a = c("attach", "--progress=plain", build)
    assert a.rc == 0 and "RUN sleep 1" in a.err and "DONE" in a.err, a.text
    procs.wait_for("the output is written", lambda: (tmp_path / "out/g").exists())
    assert (tmp_path / "out/g").read_text() == "x\n"
    procs.wait_for("the background process leaves", lambda: subprocess.run(["pgrep", "-f", "--", str(tmp_path / "out")], capture_output=True).returncode == 1)


def test_detach_tells_errors_before_there_is_a_build(c, ctx, tmp_path):
    r = c("build", "--detach", tmp_path / "nothing")
    assert r.rc != 0 and "nothing" in r.err and r.out == "", r.text
    c("build", "--detach", "-o", "-", ctx("FROM scratch\nCOPY f /\n", f="")).fails(2, "--detach leaves no standard output")


def test_cancel_ends_a_detached_build(two, c, reg, ctx):
    build = c("build", "--detach", "-o", "type=cacheonly", ctx(long_build(reg)), check=True).out.strip()
    begun(c, build)
    ps = c("ps", check=True).out.splitlines()
    assert ps[0].split() == ["BUILD", "ID", "STATUS", "CREATED", "DURATION", "NAME"] and [line.split()[0] for line in ps[1:]] == [build]
    follower = subprocess.Popen([procs.program("bxc"), "--builder=cluster", "logs", "-f", build], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=two.env())
    # The unique beginning of an id is enough.
    assert c("cancel", build[:8], check=True).out.strip() == build
    out = follower.communicate(timeout=60)[0].decode()
    assert follower.returncode == 0 and says("step-begun", out) and not says("step-ended", out) and "CANCELED" in out, out
    assert wait_done(two, build)["status"] == "canceled"
    assert len(c("ps", check=True).out.splitlines()) == 1
    c("cancel", build, check=True)   # as often as one likes


def test_interrupt_of_a_watcher_leaves_the_build(two, c, reg, ctx):
    build = c("build", "--detach", "-o", "type=cacheonly", ctx(long_build(reg)), check=True).out.strip()
    begun(c, build)
    for verb in (["attach", "--progress=plain", build], ["logs", "-f", build]):
        p = subprocess.Popen([procs.program("bxc"), "--builder=cluster"] + verb, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=two.env())
        said = b""
        while not says("step-begun", said.decode()):
            chunk = os.read(p.stdout.fileno(), 4096)
            assert chunk, said
            said += chunk
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=30)
        assert p.returncode == 130
    assert running(two) == [build]
    c("cancel", build, check=True)
    wait_done(two, build)


def test_interrupt_of_the_owner_cancels(two, c, reg, ctx):
    p = two.popen("-o", "type=cacheonly", ctx(long_build(reg)))
    build = procs.wait_for("the build is recorded", lambda: running(two))[0]
    begun(c, build)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=60)
    assert p.returncode == 130 and wait_done(two, build)["status"] == "canceled"


def test_attach_to_a_failed_build_tells_as_the_build_did(two, c, reg, ctx):
    r = two.build("-o", "type=cacheonly", ctx("FROM %s\nRUN echo why; exit 3\n" % reg.ref("base:latest")), check=False)
    build = two.builds()[0]["id"]
    a = c("attach", "--progress=plain", "^0")
    assert a.rc == r.rc == 1
    for text in ("why", "exit code: 3", ">>> RUN echo why; exit 3", "ERROR: failed to build: failed to solve"):
        assert text in a.err, a.err
    logs = c("logs", build, check=True)
    assert "why" in logs.out and "building with" not in logs.out and logs.err == ""
    raw = [json.loads(line) for line in c("logs", "--progress=rawjson", build, check=True).out.splitlines()]
    assert any("logs" in e for e in raw) and any("vertexes" in e for e in raw)


def test_history(two, c, ctx):
    for text in ("a", "b"):
        two.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY f /%s\n" % text, f=text))
    latest, earlier = [b["id"] for b in two.builds()[:2]]
    listed = [line.split()[0] for line in c("history", "ls", check=True).out.splitlines()[1:]]
    assert listed[:2] == [latest, earlier]
    assert json.loads(c("history", "ls", "--format=json", check=True).out.splitlines()[0])["id"] == latest
    shown = c("history", "inspect", "^1", check=True).out
    assert re.search(r"^Build ID: +%s$" % earlier, shown, re.M) and re.search(r"^Status: +done$", shown, re.M)
    assert json.loads(c("history", "inspect", "--format=json", "cluster/cluster/" + earlier, check=True).out)["id"] == earlier
    assert "COPY f /b" in c("history", "logs", check=True).out
    assert c("history", "rm", earlier, check=True).out.strip() == earlier
    assert earlier not in [b["id"] for b in two.builds()]
    c("history", "inspect", earlier).fails(1, "no build")
    c("history", "rm", "^0", "no-such-build").fails(1, "no-such-build")
    c("logs", "../workers").fails(1)
    c("logs", "^9999").fails(1, "only")


def test_a_running_build_is_not_removed(two, c, reg, ctx):
    build = c("build", "--detach", "-o", "type=cacheonly", ctx(long_build(reg)), check=True).out.strip()
    c("history", "rm", build).fails(1, "is running: cancel it first")
    c("cancel", build, check=True)
    wait_done(two, build)
    c("history", "rm", build, check=True)


def test_removing_and_pages_need_rights_and_sense(two, ctx):
    two.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY f /\n", f="rights"))
    build = two.builds()[0]["id"]

    def status(path, **kw):
        try:
            two.api(path, **kw)
        except urllib.error.HTTPError as e:
            return e.code
        return 200
    path = "/v1/builds/" + build
    assert status(path, method="DELETE", token="wrong-token-of-nobody") == 401
    assert status(path, method="DELETE", token=two.token("worker")) in (401, 403)
    assert status(path + "/events?follow=false", token="wrong-token-of-nobody") == 401
    assert status(path + "/events?follow=maybe") == 400
    assert status(path + "/events?follow=false&after=-1") == 400
    page = two.api(path + "/events?follow=false")
    assert not page["more"] and [e["seq"] for e in page["events"]] == list(range(1, len(page["events"]) + 1))
    assert page["events"][-1]["event"]["type"] == "build.done"
    assert two.api(path + "/events?follow=false&after=%d" % (len(page["events"]) - 1))["events"] == page["events"][-1:]
    assert status("/v1/builds/b-0000/events?follow=false") == 404


def test_old_builds_and_unused_files_of_contexts_go(fresh, ctx, tmp_path):
    c = fresh(workers=1)
    for i in range(4):
        c.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY f /\n", f="%d" % i))
    newest = c.builds()[0]["id"]

    def blobs():
        return [os.path.join(top, n) for top, _, names in os.walk(c.path("coordinator", "blobs")) for n in names]
    # Two files that were used long ago.
    packs = sorted(blobs(), key=os.path.getmtime)
    assert len(packs) >= 8
    for p in packs[:2]:
        os.utime(p, (1, 1))
    channel, http = c.api("/v1/info")["channel"][0], c.http
    c.coordinator.stop()
    c.coordinator_args += ["--history-max", "1", "--history-keep", "0s", "--contexts-keep", "2h"]
    channel_http = c.http
    c.start_coordinator(listen=http, channel=channel)
    procs.wait_for("old builds are gone", lambda: [b["id"] for b in c.builds()] == [newest])
    procs.wait_for("old files are gone", lambda: sorted(blobs()) == sorted(packs[2:]))
    # What went is asked for again.
    for i in (0, 3):
        out = tmp_path / ("o%d" % i)
        c.build("-o", "type=local,dest=%s" % out, ctx("FROM scratch\nCOPY f /\nCOPY f /g\n", f="%d" % i))
        assert (out / "g").read_text() == "%d" % i
