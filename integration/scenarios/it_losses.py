"""What is lost in the middle of a build: a layer, a client, an answer, all workers."""
import os
import re
import signal
import socket
import subprocess
import threading

from harness import procs
from harness.follow import busy, read_until, says, started, until


def finish(client, timeout=120):
    out = client.communicate(timeout=timeout)[0].decode()
    return client.returncode, out


def no_process(argument):
    procs.wait_for("no process is left of the step", lambda: subprocess.run(["pgrep", "-f", argument], capture_output=True).returncode == 1)


def unique():
    """A number of seconds that no other sleep has."""
    return "98%d" % (10 ** 8 + int.from_bytes(os.urandom(3), "big"))


def long_step(reg, secs):
    return "FROM %s\nRUN echo step-begun; sleep %s\n" % (reg.ref("base:latest"), secs)


def test_frozen_worker_is_given_up(fresh, reg, tmp_path, ctx):
    """It does not answer and its connections stay: the grace ends it."""
    c = fresh(workers=2, grace="2s")
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx("FROM %s\nRUN echo step-begun; sleep 2; echo done > /f\n" % reg.ref("base:latest")))
    until(c, started(c, p), says("step-begun"))
    victim = c.workers[busy(c)[0]]
    os.kill(victim.p.pid, signal.SIGSTOP)
    try:
        rc, out = finish(p)
    finally:
        os.kill(victim.p.pid, signal.SIGCONT)
    assert rc == 0, out
    assert (tmp_path / "o/f").read_text() == "done\n"
    # It comes back and is of use.
    procs.wait_for("both workers are connected", lambda: [w["state"] for w in c.api("/v1/workers")["workers"]] == ["up", "up"])


def test_lost_layer_is_made_again(fresh, reg, tmp_path, ctx):
    """The worker that holds an earlier stage's only copy dies while another stage still runs."""
    c = fresh(workers=2, grace="1s")
    p = c.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx(
        "FROM {0} AS a\nRUN echo a-ran; echo a > /a\nFROM {0} AS b\nRUN echo b-begun; sleep 4; echo b > /b\n"
        "FROM scratch\nCOPY --from=b /b /\nCOPY --from=a /a /\n".format(reg.ref("base:latest"))))
    build = started(c, p)
    done = until(c, build, lambda e: e["type"] == "vertex" and "RUN echo a-ran" in e["name"] and e.get("completed_ns"))
    until(c, build, says("b-begun"))
    assert len(busy(c)) == 1 and busy(c) != [done["worker"]]
    c.workers[done["worker"]].kill()
    rc, out = finish(p)
    assert rc == 0, out
    assert {n: (tmp_path / "o" / n).read_text() for n in "ab"} == {"a": "a\n", "b": "b\n"}
    assert len([e for e in c.events() if says("a-ran")(e)]) == 2 and len([e for e in c.events() if says("b-begun")(e)]) == 1


def test_export_of_a_lost_result_makes_it_again(fresh, reg, tmp_path, ctx):
    """The cache knows the result; the worker that held it is gone with its disk."""
    c = fresh(workers=2, grace="1s")
    d = ctx("FROM {0}\nRUN echo a-ran; echo a > /a\n".format(reg.ref("base:latest")))
    c.build("-o", "type=cacheonly", d)
    for w in set(c.workers_of().values()):
        c.workers[w].kill()
    c.build("-o", "type=tar,dest=%s" % (tmp_path / "o.tar"), d)


def test_no_worker_left_fails_in_time(fresh, reg, ctx):
    c = fresh(workers=1, grace="1s")
    c.workers["worker-1"].kill()
    r = c.build("-o", "type=cacheonly", ctx("FROM %s\nRUN true\n" % reg.ref("base:latest")), check=False, timeout=60)
    assert r.rc == 1 and "worker" in r.text, r.text


def test_workers_of_one_name_on_one_machine_leave_each_other_alone(fresh, reg, ctx):
    """Of two clusters: the start and the end of one's worker kills no step of the other's."""
    a, b = fresh(workers=1), fresh(workers=0)
    p = a.popen("-o", "type=cacheonly", ctx("FROM %s\nRUN echo step-begun; sleep 3\n" % reg.ref("base:latest")))
    until(a, started(a, p), says("step-begun"))
    b.add_worker("worker-1").stop()
    rc, out = finish(p)
    assert rc == 0, out


def test_terminate_is_as_interrupt(two, reg, ctx):
    secs = unique()
    p = two.popen("-o", "type=cacheonly", ctx(long_step(reg, secs)))
    until(two, started(two, p), says("step-begun"))
    assert subprocess.run(["pgrep", "-f", "sleep " + secs], capture_output=True).returncode == 0
    p.send_signal(signal.SIGTERM)
    rc, out = finish(p, 30)
    assert rc == 130 and "CANCELED" in out, out
    assert two.builds()[0]["status"] == "canceled"
    no_process("sleep " + secs)
    procs.wait_for("no slot is taken", lambda: not busy(two))


def test_killed_client_cancels(fresh, reg, ctx):
    c = fresh(workers=1, grace="1s")
    secs = unique()
    p = c.popen("-o", "type=cacheonly", ctx(long_step(reg, secs)))
    until(c, started(c, p), says("step-begun"))
    p.kill()
    finish(p, 30)
    no_process("sleep " + secs)
    procs.wait_for("the build is over", lambda: c.builds()[0]["status"] != "running")


def test_cancel_by_the_api(two, reg, ctx):
    secs = unique()
    p = two.popen("-o", "type=cacheonly", ctx(long_step(reg, secs)))
    build = started(two, p)
    until(two, build, says("step-begun"))
    for _ in range(2):
        assert two.api("/v1/builds/%s/cancel" % build, method="POST", body=b"") == {}
    rc, out = finish(p, 30)
    assert rc == 130, out
    no_process("sleep " + secs)


def test_cancel_of_one_leaves_the_other_that_shares_the_step(two, reg, tmp_path, ctx):
    d = ctx("FROM %s\nRUN echo %s; echo step-begun; sleep 3; echo done > /f\n" % (reg.ref("base:latest"), unique()))
    a = two.popen("-o", "type=cacheonly", d)
    until(two, started(two, a), says("step-begun"))
    b = two.popen("-o", "type=local,dest=%s" % (tmp_path / "o"), d)
    procs.wait_for("both are recorded", lambda: len([x for x in two.builds() if x["status"] == "running"]) == 2)
    a.send_signal(signal.SIGINT)
    assert finish(a, 30)[0] == 130
    rc, out = finish(b, 60)
    assert rc == 0, out
    assert (tmp_path / "o/f").read_text() == "done\n"


class Gate:
    """A way to the registry that can be shut: what comes while it is shut waits."""

    def __init__(self, target):
        host, port = target.rsplit(":", 1)
        self.target = (host, int(port))
        self.open, self.waiting = threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        self.waiting.set()
        self.open.wait()
        s = socket.create_connection(self.target)
        threading.Thread(target=self.copy, args=(s, c), daemon=True).start()
        self.copy(c, s)

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.open.set()
        self.listener.close()


def test_worker_killed_in_a_push_costs_only_that_push(fresh, reg, ctx):
    c = fresh(workers=2, grace="1s")
    gate = Gate(reg.addr)
    try:
        name = gate.address + "/pushed:1"
        p = c.popen("-t", name, "--push", ctx("FROM %s\nRUN echo a-ran > /a\n" % reg.ref("base:latest")))
        assert gate.waiting.wait(60)
        victim = busy(c)
        assert len(victim) == 1
        c.workers[victim[0]].kill()
        procs.wait_for("the worker is given up", lambda: len(c.api("/v1/workers")["workers"]) == 1)
        gate.open.set()
        rc, out = finish(p)
        assert rc == 0, out
        assert len([e for e in c.events() if e["type"] == "vertex" and "a-ran" in e["name"] and e.get("completed_ns")]) in (1, 2)
        assert reg.has("pushed", "1")
    finally:
        gate.close()


def test_worker_killed_while_it_sends_a_tar_is_told(fresh, reg, ctx):
    """What was sent can't be taken back: the build ends with a plain error."""
    c = fresh(workers=2, grace="1s")
    d = ctx("FROM %s\nRUN head -c 60000000 /dev/urandom > /big\n" % reg.ref("base:latest"))
    p = subprocess.Popen([procs.program("bxc"), "--builder=cluster", "build", "--progress", "plain", "-o", "-", d],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=c.env())
    build = started(c, p)
    until(c, build, lambda e: e["type"] == "status" and e["id"] == "sending tarball")
    assert p.stdout.read(1000)
    c.workers[busy(c)[0]].kill()
    err = p.communicate(timeout=60)[1].decode()
    assert p.returncode == 1 and "lost" in err and "build again" in err, err


def test_attributes_of_an_output_are_read_before_the_build_runs(two, reg, ctx):
    d = ctx("FROM %s\nRUN echo %s\n" % (reg.ref("base:latest"), unique()))
    for spec, text in (("type=image,name=%s/x:1,push=true,push-by-digest=perhaps" % reg.addr, "non-bool value specified for push-by-digest"),
                       ("type=image,push=true", "tag is needed when pushing to registry"),
                       ("type=image,name=UPPER/Case:::", "UPPER/Case"),
                       ("type=oci,compression=lzma", "unsupported layer compression type")):
        n = len(two.builds())
        r = two.build("-o", spec, d, check=False)
        assert r.rc in (1, 2) and text in r.text, (spec, r.text)
        assert len(two.builds()) == n, spec


def test_layers_of_equal_content_travel(two, reg, ctx, tmp_path):
    """Twenty steps that change no file have one blob; the worker that fetches them all is not confused by that."""
    u = unique()
    mount = "RUN --mount=type=cache,target=/c,id=%s-" % u
    d = ctx("FROM {0} AS a\n{1}a [ ! -e /c/x ]; sleep 0.7\n{2}RUN echo a > /a\n"
            "FROM {0} AS b\n{1}b [ ! -e /c/x ]; sleep 0.7; echo b > /b\nFROM b\nCOPY --from=a /a /\nRUN cat /a /b > /ab\n"
            .format(reg.ref("base:latest"), mount, "".join(mount + "a [ ! -e /c/%d ]\n" % i for i in range(20))))
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), d)
    assert (tmp_path / "o/ab").read_text() == "a\nb\n"
    ran = {w for n, w in two.workers_of().items() if "--mount=type=cache" in n}
    assert ran == {"worker-1", "worker-2"}, ran
    assert len([e for e in two.events() if e["type"] == "vertex" and "RUN echo a" in e["name"] and e.get("completed_ns")]) == 1


def test_a_step_that_takes_workers_down_is_stopped_and_kept_from_other_builds(fresh, reg, ctx, tmp_path):
    c = fresh(workers=3, grace="1s")
    base = reg.ref("base:latest")
    where = ctx("FROM %s\nRUN echo started; sleep 300\n" % base)
    p = c.popen("-o", "type=cacheonly", where)
    killed = []
    for _ in range(3):
        read_until(p, r"\d started\n")
        name = procs.wait_for("a worker runs it", lambda: [w for w in busy(c) if w not in killed])[0]
        c.workers[name].kill()
        killed.append(name)
    out = p.communicate(timeout=60)[0].decode()
    assert p.returncode == 1, out
    assert "took down 3 workers while it ran (%s)" % ", ".join(killed) in out, out
    # Neither another build nor another coordinator runs it; what is another step runs.
    c.add_worker("worker-4")
    c.build("--no-cache", "-o", "type=cacheonly", where, check=False).fails(1, "it is in quarantine until")
    chan, http = c.api("/v1/info")["channel"][0], c.http
    c.coordinator.kill()
    c.start_coordinator(listen=http, channel=chan)
    procs.wait_for("the worker is back", lambda: c.api("/v1/workers")["workers"])
    c.build("-o", "type=cacheonly", where, check=False).fails(1, "it is in quarantine until")
    c.build("-o", "type=cacheonly", ctx("FROM %s\nRUN echo started\n" % base))


def test_a_step_that_runs_for_too_long_fails(fresh, reg, ctx):
    c = fresh(workers=1, coordinator_args=["--step-timeout", "1500ms"])
    secs = unique()
    base = reg.ref("base:latest")
    r = c.build("-o", "type=cacheonly", ctx("FROM %s\nRUN sleep 0.1\nRUN echo begun; sleep %s\n" % (base, secs)), check=False)
    r.fails(1, "begun", "did not complete successfully: it ran for longer than 1.5s, the limit of this cluster", "Dockerfile:3")
    no_process(secs)
    # It is the step's own failure: nobody tried again.
    assert len(re.findall(r"^#\d+ [0-9.]+ begun$", r.text, re.M)) == 1, r.text
