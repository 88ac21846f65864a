"""bxc why and --expect-cached: what differs is named, who made a hit is told, and nothing runs that was to be cached."""
import json
import os
import re
import sqlite3
import subprocess

import pytest

from harness import cluster, follow, procs


@pytest.fixture
def why(two):
    """Builds, then gives the explanation of the step whose name holds `step`."""
    def ask(step, *args, builder=two):
        r = builder.build("-o", "type=cacheonly", *args)
        answer = json.loads(builder.bxc("--builder=cluster", "why", "--format=json", "^0", step, check=True).out)
        assert len(answer["steps"]) == 1, answer
        return answer["steps"][0], r
    return ask


@pytest.fixture
def files(tmp_path):
    return lambda **f: cluster.context(tmp_path / "ctx", f)


def restart(c, how=lambda d: d.kill()):
    channel = c.api("/v1/info")["channel"][0]
    how(c.coordinator)
    c.start_coordinator(listen=c.http, channel=channel)
    procs.wait_for("the worker is back", lambda: c.api("/v1/workers")["workers"])


def latest(c):
    return c.builds()[0]["id"]


def first(step, component):
    """The first difference, which is of that component."""
    assert step["outcome"] == "executed" and step["why"]["reason"] == "differs", step
    d = step["why"]["differences"][0]
    assert d["component"] == component, step
    return d


def test_what_was_never_seen_and_who_made_what_is_cached(two, why, reg, files):
    d = files(Dockerfile="FROM %s AS never-seen\nRUN echo never-seen-before\n" % reg.ref("base:latest"))
    s, _ = why("RUN echo", d)
    assert (s["outcome"], s["why"]) == ("executed", {"reason": "never-seen"}) and s["worker"].startswith("worker-"), s
    assert int(s["duration_ns"]) > 0
    made_by, worker = latest(two), s["worker"]
    s, r = why("RUN echo", d)
    assert s["outcome"] == "hit" and (s["made_by"]["build"], s["made_by"]["worker"]) == (made_by, worker), s
    assert any("RUN echo" in n for n in r.cached())
    # A third one tells of the first as well.
    s, _ = why("RUN echo", d)
    assert s["made_by"]["build"] == made_by
    text = two.bxc("--builder=cluster", "why", check=True).out
    assert re.search(r"^#%d \[2/2\] RUN echo never-seen-before  CACHED: made by build %s on %s$" % (s["step"], made_by, worker), text, re.M), text


def test_an_argument(two, why, reg, files):
    base = reg.ref("base:latest")
    why("RUN", files(Dockerfile="FROM %s\nRUN echo argument one\n" % base))
    before = latest(two)
    s, _ = why("RUN", files(Dockerfile="FROM %s\nRUN echo argument two\n" % base))
    d = first(s, "argument")
    assert (d["old"], d["new"]) == ("echo argument one", "echo argument two") and s["why"]["build"] == before
    assert s["text"] == 'differs from build %s: argument "echo argument one" -> "echo argument two"' % before


def test_an_environment_variable(why, reg, files):
    text = "FROM %s\nENV V=%%s\nARG A=x\nRUN echo environment\n" % reg.ref("base:latest")
    why("RUN", files(Dockerfile=text % "1"))
    d = first(why("RUN", files(Dockerfile=text % "2"))[0], "environment")
    assert (d["name"], d["old"], d["new"]) == ("V", "1", "2")
    d = first(why("RUN", "--build-arg=A=y", files(Dockerfile=text % "2"))[0], "environment")
    assert (d["name"], d["old"], d["new"]) == ("A", "x", "y")


def test_a_file_is_named_with_both_digests(two, why, reg, files):
    text = "FROM %s\nCOPY . /files/\nRUN cat /files/src/a.c\n" % reg.ref("base:latest")
    why("COPY", files(Dockerfile=text, **{"src/a.c": "one", "src/b.c": "same"}))
    before = latest(two)
    s, _ = why("COPY", files(**{"src/a.c": "two"}))
    d = first(s, "file")
    sha = {t: "sha256:" + subprocess.run(["sha256sum"], input=t.encode(), capture_output=True, check=True).stdout.decode()[:64] for t in ("one", "two", "new")}
    assert (d["name"], d["old"], d["new"]) == ("src/a.c", sha["one"], sha["two"]) and s["why"]["build"] == before
    # The step above it is new because of it, and says so.
    run = json.loads(two.bxc("--builder=cluster", "why", "--format=json", "^0", "RUN cat", check=True).out)["steps"][0]
    d = first(run, "input")
    assert (d["step"], d["outcome"]) == (s["step"], "executed") and "input #%d [2/3] COPY . /files/, which was executed" % s["step"] in run["text"], run
    d = first(why("COPY", files(**{"src/c.c": "new"}))[0], "file")
    assert d["name"] == "src/c.c" and d["new"] == sha["new"] and "old" not in d
    os.chmod(os.path.join(files(), "src/b.c"), 0o755)
    d = first(why("COPY", files())[0], "file")
    assert d["name"] == "src/b.c" and "0644" in d["old"] and "0755" in d["new"]


def test_the_base(two, why, reg, files):
    moving = reg.ref("moving:latest")

    def move(to):
        two.build("--push", "-t", moving, files(Dockerfile="FROM %s\nCOPY v /v\n" % reg.ref("base:latest"), v=to))
    text = "FROM %s\nRUN echo base moves\n" % moving
    move("1")
    why("RUN", files(Dockerfile=text))
    move("2")
    s, _ = why("RUN", files(Dockerfile=text))
    d = first(s, "base")
    assert d["old"] != d["new"] and all(re.fullmatch(re.escape(moving) + "@sha256:[0-9a-f]{64}", d[k]) for k in ("old", "new")), d
    assert re.search("base %s sha256:[0-9a-f]{12} -> sha256:[0-9a-f]{12}" % re.escape(moving), s["text"]), s


def test_the_platform(why, reg, files):
    text = "FROM scratch\nCOPY f /platform\n"
    why("COPY", "--platform=linux/amd64", files(Dockerfile=text, f="x"))
    d = first(why("COPY", "--platform=linux/arm64", files())[0], "platform")
    assert (d["old"], d["new"]) == ("linux/amd64", "linux/arm64")


def test_mounts_and_no_value_of_a_secret(two, why, reg, files, tmp_path):
    text = "FROM %s\nRUN --mount=type=cache,target=/c,id=%%s --mount=type=secret,id=%%s,target=/s cat /s >/dev/null\n" % reg.ref("base:latest")
    (tmp_path / "secret").write_text("hunter2-the-value")
    secret = "src=%s" % (tmp_path / "secret")
    why("RUN", "--secret=id=one," + secret, files(Dockerfile=text % ("c1", "one")))
    d = first(why("RUN", "--secret=id=one," + secret, files(Dockerfile=text % ("c2", "one")))[0], "mount")
    assert d["name"] == "/c" and "id=c1" in d["old"] and "id=c2" in d["new"]
    d = first(why("RUN", "--secret=id=two," + secret, files(Dockerfile=text % ("c2", "two")))[0], "mount")
    assert d["name"] == "/s" and "id=one" in d["old"] and "id=two" in d["new"]
    for name in os.listdir(two.path("coordinator")):
        if name.startswith("state.db"):
            with open(two.path("coordinator", name), "rb") as f:
                assert b"hunter2" not in f.read()


def test_no_cache(why, reg, files):
    d = files(Dockerfile="FROM %s\nRUN echo not from the cache\n" % reg.ref("base:latest"))
    why("RUN", d)
    s, _ = why("RUN", "--no-cache", d)
    assert (s["outcome"], s["why"]) == ("executed", {"reason": "no-cache"})


def test_a_step_that_failed(two, reg, files):
    two.build("-o", "type=cacheonly", files(Dockerfile="FROM %s AS failing\nRUN echo fails; exit 3\n" % reg.ref("base:latest")), check=False).fails(1)
    s = json.loads(two.bxc("--builder=cluster", "why", "--format=json", "^0", "RUN", check=True).out)["steps"][0]
    assert s["outcome"] == "failed" and s["why"]["reason"] == "never-seen" and s["worker"].startswith("worker-"), s
    assert re.search(r"^#\d+ \[2/2\] RUN echo fails; exit 3  FAILED on worker-\d: never seen", two.bxc("--builder=cluster", "why", check=True).out, re.M)


def test_what_was_evicted(fresh, why, reg, files):
    c = fresh(workers=1, worker_args=["--space-max-used", "1", "--space-keep", "1s", "--space-interval", "200ms"])
    d = files(Dockerfile="FROM %s\nRUN head -c 100000 /dev/urandom > /evicted\n" % reg.ref("base:latest"))
    why("RUN", d, builder=c)
    before = latest(c)
    procs.wait_for("an empty worker", lambda: not os.listdir(os.path.join(c.states["worker-1"], "snapshots", "layers")))
    s, _ = why("RUN", d, builder=c)
    assert s["outcome"] == "executed" and (s["why"]["reason"], s["why"]["build"]) == ("evicted", before), s


def test_an_inserted_step_is_no_reason_for_those_behind_it(why, reg, files):
    base = reg.ref("base:latest")
    why("echo last", files(Dockerfile="FROM %s\nRUN echo first insert\nRUN echo last insert\n" % base))
    s, _ = why("echo last", files(Dockerfile="FROM %s\nRUN echo first insert\nRUN echo between\nRUN echo last insert\n" % base))
    d = first(s, "input")
    assert d["name"].endswith("RUN echo between") and s["why"]["n_differences"] == 1


def test_what_is_asked_for_and_what_is_not_there(two, why, reg, files):
    s, _ = why("RUN", files(Dockerfile="FROM %s\nRUN echo asked\n" % reg.ref("base:latest")))
    ask = lambda *a: two.bxc("--builder=cluster", "why", *a)
    for name in (str(s["step"]), "#%d" % s["step"], "echo asked"):
        assert ask("^0", name).out.splitlines() == ask("^0", "echo asked").out.splitlines() and ask("^0", name).rc == 0
    ask("^0", "999").fails(1, "has no step 999")
    ask("^0", "nothing of that name").fails(1, "no step 'nothing of that name'")
    ask("b-0123456789abcdef").fails(1, "b-0123456789abcdef")
    for query in ("step=0", "step=x", "after=1", "after=x-00"):
        with pytest.raises(Exception) as e:
            two.api("/v1/builds/%s/why?%s" % (latest(two), query))
        assert e.value.code in (400, 416), query


def test_explanations_go_with_their_build(two, why, reg, files):
    d = files(Dockerfile="FROM %s\nRUN echo goes with its build\n" % reg.ref("base:latest"))
    s, _ = why("RUN", d)
    build = latest(two)
    two.bxc("--builder=cluster", "history", "rm", build, check=True)
    two.bxc("--builder=cluster", "why", build).fails(1)
    # What it made is still there, and so is who made it.
    s, _ = why("RUN", d)
    assert s["outcome"] == "hit" and s["made_by"]["build"] == build


def test_explanations_outlive_the_coordinator(fresh, why, reg, files):
    c = fresh(workers=1)
    text = "FROM %s\nRUN echo %%s\n" % reg.ref("base:latest")
    why("RUN", files(Dockerfile=text % "one"), builder=c)
    build = latest(c)
    restart(c)
    s, _ = why("RUN", files(Dockerfile=text % "two"), builder=c)
    assert first(s, "argument")["old"] == "echo one" and s["why"]["build"] == build


def test_what_ran_before_a_restart_is_no_hit(fresh, reg, files):
    c = fresh(workers=1)
    p = c.popen("-o", "type=cacheonly", files(Dockerfile="FROM %s\nRUN echo before\nRUN echo gate-begun; sleep 4\n" % reg.ref("base:latest")))
    follow.read_until(p, r"gate-begun\n")
    restart(c)
    out = p.communicate(timeout=60)[0].decode()
    assert p.returncode == 0, out
    steps = {s["name"]: s for s in json.loads(c.bxc("--builder=cluster", "why", "--format=json", check=True).out)["steps"]}
    for name in ("[2/3] RUN echo before", "[3/3] RUN echo gate-begun; sleep 4"):
        assert (steps[name]["outcome"], steps[name]["worker"], steps[name]["why"]["reason"]) == ("executed", "worker-1", "never-seen"), steps


def test_one_run_for_two_builds(two, reg, files):
    d = files(Dockerfile="FROM %s AS shared\nRUN echo run-begun; sleep 4\n" % reg.ref("base:latest"))
    p = two.popen("-o", "type=cacheonly", d)
    follow.read_until(p, r"run-begun\n")
    other = latest(two)
    two.build("-o", "type=cacheonly", d)
    assert p.communicate(timeout=60) and p.returncode == 0
    ask = lambda b: json.loads(two.bxc("--builder=cluster", "why", "--format=json", b, "RUN", check=True).out)["steps"][0]
    assert (ask("^0")["outcome"], ask("^0")["shared_with"]) == ("executed", other) and "shared_with" not in ask(other)
    assert ("; one run with build %s" % other) in two.bxc("--builder=cluster", "why", check=True).out


# ---- --expect-cached

def test_expect_cached_runs_nothing_and_tells_all_that_is_missed(two, reg, files, tmp_path):
    text = ("FROM %s AS expected\nFROM expected AS a\nRUN echo expect a > /a\nFROM expected AS b\nCOPY f /f\nRUN echo expect b > /b\n"
            "FROM expected\nCOPY --from=a /a /\nCOPY --from=b /b /\n") % reg.ref("base:latest")
    d = files(Dockerfile=text, f="one")
    r = two.build("--expect-cached", "-o", "type=cacheonly", d, check=False)
    r.fails(1, "2 steps are not cached, nothing was run", "RUN echo expect a > /a (never seen", "COPY f /f (never seen")
    assert not two.workers_of(), two.workers_of()
    made = [e for e in two.events() if e["type"] == "vertex" and e.get("error")]
    assert {e["name"].split("] ")[1] for e in made} == {"RUN echo expect a > /a", "COPY f /f"}, made
    two.build("-o", "type=cacheonly", d)
    # Now it is all there, and an output is made of it.
    r = two.build("--expect-cached", "-o", "type=local,dest=%s" % (tmp_path / "out"), d)
    assert (tmp_path / "out" / "b").read_text() == "expect b\n"
    before = latest(two)
    r = two.build("--expect-cached", "-o", "type=cacheonly", files(f="two"), check=False)
    r.fails(1, "1 step is not cached, nothing was run", "COPY f /f (differs from build %s: file f sha256:" % before)
    s = json.loads(two.bxc("--builder=cluster", "why", "--format=json", "^0", "COPY f", check=True).out)["steps"][0]
    assert s["outcome"] == "missed" and s["why"]["differences"][0]["name"] == "f"


def test_expect_cached_takes_no_run_of_others_for_a_hit(two, reg, files, tmp_path):
    gate = "FROM %s\nRUN echo begun; sleep 3600\n" % reg.ref("base:latest")
    p = two.popen("-o", "type=cacheonly", files(Dockerfile=gate))
    build = procs.wait_for("the step runs", lambda: next((b["id"] for b in two.builds() if b["status"] == "running"), None))
    procs.wait_for("the step runs", lambda: "begun" in two.bxc("--builder=cluster", "logs", build, check=True).out.split("RUN echo begun; sleep 3600\n")[-1])
    two.build("--expect-cached", "-o", "type=cacheonly", files(), check=False).fails(1, "1 step is not cached")
    assert [b["id"] for b in two.builds() if b["status"] == "running"] == [build]
    two.bxc("--builder=cluster", "cancel", build, check=True)
    p.communicate(timeout=60)


def test_expect_cached_goes_with_a_cache_only(two, files):
    d = files(Dockerfile="FROM scratch\nCOPY f /\n", f="x")
    for flag in ("--no-cache", "--no-cache-filter=x"):
        two.build("--expect-cached", flag, "-o", "type=cacheonly", d, check=False).fails(2, "--expect-cached")


# ---- CACHED

def test_cached_is_never_told_of_a_skipped_step(fresh, reg, files, tmp_path):
    """The result is there, what it was made from is not: those steps were not looked at, and nothing is said of them."""
    c = fresh(workers=1)
    text = ("FROM %s AS made\nRUN echo skipped > /f\nFROM scratch AS unused\nCOPY Dockerfile /\n"
            "FROM scratch\nCOPY --from=made /f /\n") % reg.ref("base:latest")
    d = files(Dockerfile=text)
    c.build("-o", "type=cacheonly", d)
    layer = next(e for e in c.events() if e["type"] == "vertex" and "RUN echo skipped" in e["name"])
    assert layer["cached"] is False
    # Its record alone goes.
    def forget(coordinator):
        coordinator.stop()
        db = sqlite3.connect(c.path("coordinator", "state.db"))
        row = db.execute("SELECT record FROM steps WHERE json_extract(facts, '$.name') LIKE '%RUN echo skipped%'").fetchone()
        db.execute("DELETE FROM keys WHERE record = ?", row)
        db.execute("DELETE FROM records WHERE id = ?", row)
        db.commit()
        db.close()
    restart(c, forget)
    r = c.build("-o", "type=cacheonly", d)
    assert any("COPY --from=made" in n for n in r.cached()), r.text
    assert "skipped" not in " ".join(r.cached()) and "unused" not in r.text, r.text
    shown = c.bxc("--builder=cluster", "why", check=True).out
    assert "RUN echo skipped" not in shown and "COPY --from=made" in shown, shown
