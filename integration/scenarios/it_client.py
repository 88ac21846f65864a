"""The client as a user meets it: what it prints, what it writes, what it remembers."""
import hashlib
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tarfile
import tempfile

import pytest

from harness import procs
from harness.cluster import context

DIGEST = r"sha256:[0-9a-f]{64}"


def test_plain_progress_has_buildkits_form(two, reg, ctx):
    text = "FROM %s\nCOPY f /f\nRUN echo hello; echo oops >&2\n" % reg.ref("base:latest")
    r = two.build("-o", "type=cacheonly", "--no-cache", ctx(text, f="x"))
    assert r.out == ""
    lines = r.err.splitlines()
    assert lines[0] == '#0 building with "cluster" instance using bxc driver'
    # Each step: a number, a name, what it says, how it ended, an empty line.
    names = dict(re.findall(r"^#(\d+) (\[.*\].*)$", r.err, re.M))
    assert list(names) == sorted(names, key=int)
    assert any(n.startswith("[internal] load build definition from Dockerfile") for n in names.values())
    run = [k for k, n in names.items() if "RUN echo hello" in n]
    assert len(run) == 1 and re.search(r"\d+/\d+\] RUN echo hello; echo oops >&2$", names[run[0]])
    assert re.search(r"^#%s \d+\.\d+ hello$" % run[0], r.err, re.M) and re.search(r"^#%s \d+\.\d+ oops$" % run[0], r.err, re.M)
    for k in names:
        assert re.search(r"^#%s (DONE \d+\.\d+s|CACHED)$" % k, r.err, re.M), "#%s has no end:\n%s" % (k, r.err)
    assert "\x1b" not in r.err
    again = two.build("-o", "type=cacheonly", ctx(text, f="x"))
    assert {n.split("] ", 1)[1][:4] for n in again.cached()} >= {"COPY", "RUN "}


def test_no_output_is_told(two, ctx):
    assert "No output specified" in two.build(ctx("FROM scratch\nCOPY f /\n", f="x")).err


def test_quiet_prints_the_digest_alone(two, reg, ctx):
    r = two.bxc("--builder=cluster", "build", "-q", "--push", "-t", reg.ref("quiet:1"), ctx("FROM scratch\nCOPY f /\n", f="x"), check=True)
    assert re.fullmatch(DIGEST + "\n", r.out) and r.err == ""
    assert reg.manifest("quiet", "1")["config"]["digest"] == r.out.strip()
    bad = two.bxc("--builder=cluster", "build", "-q", ctx("FROM scratch\nCOPY nothing /\n"))
    assert bad.rc == 1 and '"/nothing": not found' in bad.err and bad.out == ""


def test_files_about_the_result(two, reg, tmp_path, ctx):
    two.build("--push", "-t", reg.ref("meta:1"), "-t", reg.ref("meta:2"), "--iidfile", tmp_path / "iid", "--metadata-file", tmp_path / "meta.json",
              ctx("FROM scratch\nCOPY f /\n", f="x"))
    raw = reg.get("meta", "manifests", "1")
    assert raw == reg.get("meta", "manifests", "2")
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    m = json.loads((tmp_path / "meta.json").read_text())
    assert m["containerimage.digest"] == digest
    assert m["containerimage.config.digest"] == reg.manifest("meta", "1")["config"]["digest"]
    assert m["image.name"] == reg.ref("meta:1") + "," + reg.ref("meta:2")
    assert m["containerimage.descriptor"]["digest"] == digest and m["containerimage.descriptor"]["size"] == len(raw)
    assert m["buildx.build.ref"].startswith("cluster/")
    assert (tmp_path / "iid").read_text() == m["containerimage.config.digest"]


def test_load_gives_the_image_to_docker(two, tmp_path, ctx):
    """`docker load` reads it; its output is not ours, and when it fails the build has failed."""
    folder, got = tmp_path / "bin", tmp_path / "got.tar"
    folder.mkdir()
    docker = folder / "docker"
    docker.write_text("#!/bin/sh\n[ \"$*\" = 'load -q' ] && cat > %s && echo Loaded\n" % got)
    docker.chmod(0o755)
    env = {"PATH": "%s:%s" % (folder, os.environ["PATH"])}
    r = two.build("--load", "-t", "x/loaded:1", ctx("FROM scratch\nCOPY f /\n", f="x"), env=env)
    assert r.out == "" and "Loaded" in r.err
    with tarfile.open(str(got)) as t:
        assert json.loads(t.extractfile("manifest.json").read())[0]["RepoTags"] == ["x/loaded:1"]
    docker.write_text("#!/bin/sh\nexit 7\n")
    two.build("--load", str(tmp_path / "ctx"), env=env, check=False).fails(1)
    two.build("--load", "--push", "-t", "x/y:1", str(tmp_path / "ctx"), env=env, check=False).fails(2, "push and load may not be set together")


def test_flags_of_older_builders_are_named_when_ignored(two, ctx):
    r = two.build("--rm", "--squash", ctx("FROM scratch\nCOPY f /\n", f="x"))
    assert "WARNING: flag --rm is ignored" in r.err and "WARNING: flag --squash is ignored" in r.err


def test_failed_build_leaves_no_iidfile(two, tmp_path, ctx):
    (tmp_path / "iid").write_text("of yesterday")
    assert two.build("--iidfile", tmp_path / "iid", ctx("FROM scratch\nCOPY nothing /\n"), check=False).rc == 1
    assert not (tmp_path / "iid").exists()


def test_builders(two, tmp_path, ctx):
    def bxc(*args, **kw):
        return two.bxc(*args, env={"BXC_CONFIG": str(tmp_path / "config"), "BXC_STATE": str(tmp_path / "no-embedded")}, **kw)
    c = ctx("FROM scratch\nCOPY f /\n", f="x")
    assert bxc("create", "--name", "one", "--token-file", two.path("coordinator", "client.token"), "http://" + two.http, check=True).out == "one\n"
    assert bxc("create", "--name", "one", "http://" + two.http).rc == 1
    assert bxc("create", "--name", "0bad", "http://" + two.http).rc != 0
    assert bxc("create", "--name", "x", "ftp://y").rc != 0
    files = [os.path.join(d, n) for d, _, names in os.walk(tmp_path / "config") for n in names]
    assert files and all(os.stat(f).st_mode & 0o077 == 0 for f in files if two.token().encode() in open(f, "rb").read())
    assert re.search(r"^default\*", bxc("ls", check=True).out, re.M)
    bxc("use", "one", check=True)
    ls = bxc("ls", check=True).out
    assert re.search(r"^one\*\s+http://%s\s+running\s+2\s+linux/" % re.escape(two.http), ls, re.M), ls
    rows = {o["name"]: o for o in map(json.loads, bxc("ls", "--format", "json", check=True).out.splitlines())}
    assert rows["one"]["current"] and not rows["default"]["current"] and rows["default"]["status"] == "inactive"
    assert {w["name"] for w in rows["one"]["workers"]} == {"worker-1", "worker-2"}
    look = bxc("inspect", check=True).out
    assert re.search(r"^Name:\s+one$", look, re.M) and re.search(r"^Worker:\s+worker-2$", look, re.M)
    assert two.token() not in ls + look
    bxc("build", "-o", "type=cacheonly", c, check=True)
    for var in ("BUILDX_BUILDER", "BXC_BUILDER"):
        assert 'no builder "other" found' in two.bxc("build", c, env={"BXC_CONFIG": str(tmp_path / "config"), var: "other"}).err
    bxc("rm", "one", check=True)
    assert "one" not in bxc("ls", check=True).out


def test_dockerignore(two, tmp_path):
    c = context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "# notes\n**/*.log\nsub\n!sub/keep\n/top\nDockerfile\n.dockerignore\n",
                                   "a": "1", "x.log": "1", "d/y.log": "1", "d/z": "1", "sub/keep": "1", "sub/lose": "1", "top": "1", "d/top": "1"})

    def files(out):
        return sorted(os.path.relpath(os.path.join(d, n), out) for d, _, names in os.walk(out) for n in names)
    two.build("-o", tmp_path / "o1", c)
    assert files(tmp_path / "o1") == ["a", "d/top", "d/z", "sub/keep"]
    # The Dockerfile's own list counts alone.
    context(c, {"Other": "FROM scratch\nCOPY . /\n", "Other.dockerignore": "*\n!a\n"})
    two.build("-f", os.path.join(c, "Other"), "-o", tmp_path / "o2", c)
    assert files(tmp_path / "o2") == ["a"]


def test_tar_on_standard_output(two, ctx):
    c = ctx("FROM scratch\nCOPY f /d/f\n", f=os.urandom(300000))
    r = two.build("-o", "-", c)
    with tarfile.open(fileobj=io.BytesIO(r.raw)) as t:
        assert t.extractfile("d/f").read() == open(os.path.join(c, "f"), "rb").read()
    r = two.build("-o", "type=oci,dest=-", c)
    with tarfile.open(fileobj=io.BytesIO(r.raw)) as t:
        assert "oci-layout" in t.getnames()


def test_rawjson(two, ctx):
    r = two.bxc("--builder=cluster", "build", "--progress=rawjson", "-o", "type=cacheonly", ctx("FROM scratch\nCOPY f /\n", f="x"), check=True)
    assert {v["name"] for j in map(json.loads, r.err.splitlines()) for v in j.get("vertexes", []) if v.get("completed")}


def on_terminal(two, *args):
    """Runs the client on a terminal of 60 columns; what it wrote there, and its exit code."""
    master, slave = pty.openpty()
    subprocess.run(["stty", "cols", "60", "rows", "12"], stdin=slave, check=True)
    p = subprocess.Popen([procs.program("bxc"), "--builder=cluster", "build"] + list(args), stdin=slave, stdout=slave, stderr=slave, env=two.env(),
                         start_new_session=True)
    os.close(slave)
    out = b""
    try:
        while select.select([master], [], [], 60)[0]:
            data = os.read(master, 65536)
            if not data:
                break
            out += data
    except OSError:
        pass
    finally:
        os.close(master)
    return p.wait(60), out.decode()


def test_terminal_view(two, reg, ctx):
    rc, out = on_terminal(two, "-o", "type=cacheonly", ctx("FROM %s\nRUN echo %s; sleep 1; printf '\\033[2J%s'\n" % (reg.ref("base:latest"), "w" * 200, os.urandom(4).hex())))
    assert rc == 0, out
    assert "[+] Building" in out and "FINISHED" in out and "RUN echo www" in out and "\x1b[" in out
    assert "\x1b[2J" not in out
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", out).replace("\r", "")
    assert max(len(line) for line in plain.splitlines()) <= 60
    rc, out = on_terminal(two, "-o", "type=cacheonly", ctx("FROM scratch\nCOPY nothing /\n"))
    assert rc == 1 and '"/nothing": not found' in out


@pytest.fixture
def embedded():
    """A state folder with a short name: sockets lie below it."""
    state = tempfile.mkdtemp(prefix="bxc-e", dir="/tmp")
    try:
        yield state
    finally:
        for pid in daemons(state):
            end(pid, signal.SIGTERM)
        assert not daemons(state) and not procs.mounts_below(state) and not procs.groups_of(os.path.join(state, "worker"))
        shutil.rmtree(state)


def daemons(state):
    return [int(p) for p in subprocess.run(["pgrep", "-f", "--", "--embedded --state-dir " + state], capture_output=True, text=True).stdout.split()]


def end(pid, sig):
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:  # the other daemon's end was its own
        return
    try:
        signal.pidfd_send_signal(fd, sig)
        assert select.select([fd], [], [], 30)[0], "%d does not end" % pid
    finally:
        os.close(fd)


def test_embedded_cluster_starts_by_itself_and_is_used_again(two, reg, embedded, tmp_path, ctx):
    c = ctx("FROM %s\nCOPY f /f\nRUN cat /f > /g\n" % reg.ref("base:latest"), f="x\n")
    env = {"BXC_STATE": embedded, "BXC_CONFIG": str(tmp_path / "config")}

    def build(out):
        return two.bxc("build", "--progress=plain", "-o", tmp_path / out, c, env=env, check=True)
    build("o1")
    first = daemons(embedded)
    assert len(first) == 2
    r = build("o2")
    assert daemons(embedded) == first
    assert any("RUN" in n for n in r.cached())
    assert (tmp_path / "o2/g").read_text() == "x\n"
    assert re.search(r"^default\*.*running\s+1", two.bxc("ls", env=env, check=True).out, re.M)
    # Killed, it starts anew and still knows.
    for pid in first:
        end(pid, signal.SIGKILL)
    r = build("o3")
    assert len(daemons(embedded)) == 2 and not set(daemons(embedded)) & set(first)
    assert any("RUN" in n for n in r.cached())


def test_embedded_cluster_is_started_once_by_many(two, embedded, tmp_path, ctx):
    env = dict(two.env(), BXC_STATE=embedded, BXC_CONFIG=str(tmp_path / "config"))
    c = ctx("FROM scratch\nCOPY f /\n", f="x")
    ps = [subprocess.Popen([procs.program("bxc"), "build", "--progress=plain", "-o", "type=cacheonly", c], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env) for _ in range(4)]
    outs = [p.communicate(timeout=60)[0].decode() for p in ps]
    assert [p.returncode for p in ps] == [0] * 4, outs
    assert len(daemons(embedded)) == 2


def test_embedded_cluster_gets_a_new_worker_or_coordinator_when_one_died(two, embedded, tmp_path, ctx):
    env = {"BXC_STATE": embedded, "BXC_CONFIG": str(tmp_path / "config")}
    c = ctx("FROM scratch\nCOPY f /\n", f="x")

    def build():
        two.bxc("build", "--progress=plain", "-o", "type=cacheonly", c, env=env, check=True)
        out = subprocess.run(["pgrep", "-a", "-f", "--", "--embedded --state-dir " + embedded], capture_output=True, text=True).stdout
        found = {os.path.basename(line.split()[1]): int(line.split()[0]) for line in out.splitlines()}
        assert len(out.splitlines()) == 2 and set(found) == {"bxc-coordinator", "bxc-worker"}, out
        return found
    first = build()
    end(first["bxc-worker"], signal.SIGKILL)
    second = build()
    assert second["bxc-coordinator"] == first["bxc-coordinator"]
    assert second["bxc-worker"] != first["bxc-worker"]
    # The worker of a coordinator that died finds the next one.
    end(second["bxc-coordinator"], signal.SIGKILL)
    third = build()
    assert third["bxc-coordinator"] != second["bxc-coordinator"]
    assert third["bxc-worker"] == second["bxc-worker"]
    # One that was told to leave takes its worker along; both start anew, even while they leave.
    os.kill(third["bxc-coordinator"], signal.SIGTERM)
    fourth = build()
    assert fourth["bxc-coordinator"] != third["bxc-coordinator"]


def test_embedded_cluster_leaves_nothing_when_its_worker_does_not_start(two, embedded, tmp_path, ctx):
    env = {"BXC_STATE": embedded, "BXC_CONFIG": str(tmp_path / "config"), "BXC_SLOTS": "many"}
    c = ctx("FROM scratch\nCOPY f /\n", f="x")
    r = two.bxc("build", "--progress=plain", "-o", "type=cacheonly", c, env=env)
    assert r.rc != 0 and "bxc-worker" in r.text and "BXC_SLOTS" in r.text, r.text
    assert daemons(embedded) == []
    del env["BXC_SLOTS"]
    two.bxc("build", "--progress=plain", "-o", "type=cacheonly", c, env=env, check=True)
    assert len(daemons(embedded)) == 2


def test_as_a_plugin_of_docker(two, tmp_path, ctx):
    """As docker's command line runs its plugins: named docker-NAME, with docker's own flags before NAME."""
    def run(name, *args):
        os.symlink(procs.program("bxc"), tmp_path / name) if not (tmp_path / name).exists() else None
        return subprocess.run([str(tmp_path / name)] + [str(a) for a in args], capture_output=True, text=True, env=two.env())
    told = json.loads(run("docker-bxc", "docker-cli-plugin-metadata").stdout)
    assert told["SchemaVersion"] == "0.1.0" and told["Vendor"] and told["Version"].startswith("v") and told["ShortDescription"]
    folder = ctx("FROM scratch\nCOPY f /f\n", f="f")
    for name in ("docker-bxc", "docker-buildx"):
        r = run(name, "--context", "default", name[7:], "--builder", "cluster", "build", "-o", tmp_path / name[7:], folder)
        assert r.returncode == 0, r.stderr
        assert (tmp_path / name[7:] / "f").read_text() == "f"
    assert "is run as 'docker bxc ...'" in run("docker-bxc", "build", folder).stderr
