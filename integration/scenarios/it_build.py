"""What a user does on a good day."""
import http.server
import json
import os
import subprocess
import tarfile
import threading

from harness.cluster import context


def test_multi_stage_image_is_pushed_and_other_tools_take_it(two, reg, tmp_path):
    ctx = context(tmp_path / "ctx", {
        "Dockerfile": "ARG BASE\nFROM ${BASE} AS a\nRUN echo one > /one\n\nFROM ${BASE} AS b\nCOPY data/ /data/\nRUN cat /data/x > /two\n\n"
                      "FROM ${BASE}\nWORKDIR /app\nCOPY --from=a /one .\nCOPY --from=b /two .\nENV K=v\nUSER 1000\nLABEL l=1\nEXPOSE 80\nCMD [\"cat\", \"/app/one\", \"/app/two\"]\n",
        "data/x": "two\n", "unused": "never sent\n"})
    two.build("--build-arg", "BASE=" + reg.ref("base:latest"), "-t", reg.ref("multi:v1"), "--push", ctx)
    cfg = reg.config("multi", "v1")
    assert cfg["config"]["Env"][-1] == "K=v" and cfg["config"]["User"] == "1000" and cfg["config"]["WorkingDir"] == "/app"
    assert cfg["config"]["Cmd"] == ["cat", "/app/one", "/app/two"]
    assert len(cfg["rootfs"]["diff_ids"]) == 4
    assert [h["created_by"] for h in cfg["history"][-8:]] == [
        "WORKDIR /app", "COPY /one . # buildkit", "COPY /two . # buildkit", "ENV K=v", "USER 1000", "LABEL l=1", "EXPOSE [80/tcp]",
        'CMD ["cat" "/app/one" "/app/two"]']
    ref = reg.ref("multi:v1")
    subprocess.run(["skopeo", "inspect", "--tls-verify=false", "docker://" + ref], check=True, capture_output=True)
    oci = str(tmp_path / "oci")
    subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", "docker://" + ref, "oci:%s:x" % oci], check=True)
    subprocess.run(["umoci", "unpack", "--image", oci + ":x", str(tmp_path / "bundle")], check=True, capture_output=True)
    root = tmp_path / "bundle" / "rootfs"
    assert (root / "app/one").read_text() == "one\n" and (root / "app/two").read_text() == "two\n"
    store = ["--root", str(tmp_path / "st"), "--runroot", str(tmp_path / "rr"), "--storage-driver", "vfs"]
    subprocess.run(["buildah"] + store + ["from", "--tls-verify=false", "--name", "w", ref], check=True, capture_output=True)
    subprocess.run(["buildah"] + store + ["rm", "w"], check=True, capture_output=True)
    run = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "run-image")
    assert subprocess.run([run, ref], check=True, capture_output=True, text=True).stdout == "one\ntwo\n"


def test_exports_to_files(two, reg, tmp_path):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY f /d/f\n", "f": "hello\n"})
    two.build("-o", "type=local,dest=%s" % (tmp_path / "out"), "-o", "type=tar,dest=%s" % (tmp_path / "o.tar"),
              "-o", "type=oci,dest=%s" % (tmp_path / "oci.tar"), "-o", "type=docker,name=x/y:z,dest=%s" % (tmp_path / "docker.tar"), ctx)
    assert (tmp_path / "out/d/f").read_text() == "hello\n"
    with tarfile.open(tmp_path / "o.tar") as t:
        assert t.extractfile("d/f").read() == b"hello\n"
    with tarfile.open(tmp_path / "oci.tar") as t:
        assert json.loads(t.extractfile("oci-layout").read())["imageLayoutVersion"] == "1.0.0"
    with tarfile.open(tmp_path / "docker.tar") as t:
        m = json.loads(t.extractfile("manifest.json").read())
        assert m[0]["RepoTags"] == ["x/y:z"]
        assert all(layer in t.getnames() for layer in m[0]["Layers"])
    for kind, name in (("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")):
        subprocess.run(["skopeo", "inspect", "%s:%s" % (kind, tmp_path / name)], check=True, capture_output=True)


def test_second_build_is_cached_and_sends_no_file(two, reg, tmp_path):
    files = {"Dockerfile": "FROM %s\nCOPY . /src\nRUN cat /src/a > /b\n" % reg.ref("base:latest"), "a": "cached?\n"}
    first = two.build("-o", "type=local,dest=%s" % (tmp_path / "o1"), context(tmp_path / "one", files))
    assert not any("RUN" in n for n in first.cached())
    # A fresh checkout with other times, by another client.
    again = context(tmp_path / "two", files)
    for name in files:
        os.utime(os.path.join(again, name), (1, 1))
    second = two.build("-o", "type=local,dest=%s" % (tmp_path / "o2"), again, env={"HOME": str(tmp_path / "elsewhere")})
    assert {n.split("] ")[1].split(" ")[0] for n in second.cached()} == {"FROM", "COPY", "RUN"} or \
        {n.split("] ")[1].split(" ")[0] for n in second.cached()} == {"COPY", "RUN"}
    assert not [e for e in two.events() if e["type"] == "status" and e["id"] == "transferring context:"]


def test_only_what_copy_asks_for_leaves_the_client(two, tmp_path):
    """1.4 Local context"""
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY small /\n", "small": "s" * 100, "large": os.urandom(3 << 20),
                                     ".dockerignore": "*.log\n", "x.log": "no\n"})
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx)
    sent = max(int(e["current"]) for e in two.events() if e["type"] == "status" and e["id"] == "transferring context:")
    assert sent < 10000
    assert os.listdir(tmp_path / "o") == ["small"]


def test_sources_may_overlap(two, ctx, tmp_path):
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx("FROM scratch\nCOPY package.json package*.json ./\n", **{"package.json": "a", "package-lock.json": "b"}))
    assert {n: (tmp_path / "o" / n).read_text() for n in os.listdir(tmp_path / "o")} == {"package.json": "a", "package-lock.json": "b"}


def test_sixteen_stages_use_both_workers_and_come_from_cache(two, reg, tmp_path):
    stages = "".join("FROM %s AS s%d\nRUN sleep 0.3; echo %d > /r%d\n" % (reg.ref("base:latest"), i, i, i) for i in range(16))
    ctx = context(tmp_path / "ctx", {"Dockerfile": stages + "FROM scratch\n" + "".join("COPY --from=s%d /r%d /\n" % (i, i) for i in range(16))})
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx)
    assert sorted(os.listdir(tmp_path / "o")) == sorted("r%d" % i for i in range(16))
    used = {w for n, w in two.workers_of().items() if "RUN" in n}
    assert used == {"worker-1", "worker-2"}
    two.build("-o", "type=cacheonly", ctx)
    assert not two.workers_of()


def test_equal_work_of_concurrent_builds_runs_once(two, reg, tmp_path):
    mark = os.urandom(8).hex()
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN echo %s; sleep 2; cat /proc/sys/kernel/random/uuid > /id\n" % (reg.ref("base:latest"), mark)})
    ps = [two.popen("-o", "type=local,dest=%s" % (tmp_path / ("o%d" % i)), ctx) for i in range(20)]
    outs = [p.communicate(timeout=90)[0].decode() for p in ps]
    assert [p.returncode for p in ps] == [0] * len(ps), outs
    assert len({(tmp_path / ("o%d" % i) / "id").read_text() for i in range(len(ps))}) == 1
    assert all(mark in o for o in outs)


def test_layers_travel_between_workers(two, reg, tmp_path):
    """Two stages that ran on different workers meet in the third."""
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM {0} AS a\nRUN sleep 1; rm /bin/vi; mkdir -p /x/y; ln /etc/passwd /x/hard; echo a > /x/a; chmod 4711 /x/a\n"
                                     "FROM {0} AS b\nRUN sleep 1; echo b > /b\nFROM a AS c\nCOPY --from=b /b /x/\nFROM b\nCOPY --from=c /x /x\nRUN ls -l /x > /ls\n".format(reg.ref("base:latest"))})
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx)
    assert sorted(os.listdir(tmp_path / "o/x")) == ["a", "b", "hard", "y"]
    assert os.stat(tmp_path / "o/x/a").st_mode & 0o7777 == 0o4711
    assert {w for n, w in two.workers_of().items() if "RUN sleep" in n} == {"worker-1", "worker-2"}


class Gate(http.server.BaseHTTPRequestHandler):
    """Sends everybody on to a registry, but the first question for each image only when all have come."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        _, v2, repo, kind, ref = self.path.split("/")
        s = self.server
        with s.lock:
            first = kind == "manifests" and repo not in s.asked
            s.asked.add(repo)
        try:
            if first:
                s.barrier.wait(30)
        except threading.BrokenBarrierError:
            pass
        self.send_response(307)
        self.send_header("Location", "http://%s/v2/base/%s/%s" % (s.registry, kind, "latest" if kind == "manifests" and ":" not in ref else ref))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


def test_images_of_one_build_are_resolved_at_the_same_time(two, reg, tmp_path):
    """1.4 Image resolution"""
    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    s.daemon_threads, s.lock, s.asked, s.registry, s.barrier = True, threading.Lock(), set(), reg.addr, threading.Barrier(3)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    try:
        at = "127.0.0.1:%d" % s.server_address[1]
        df = "".join("FROM %s/i%d AS s%d\nRUN echo %d > /r%d\n" % (at, i, i, i, i) for i in range(6))
        ctx = context(tmp_path / "ctx", {"Dockerfile": df + "FROM scratch\n" + "".join("COPY --from=s%d /r%d /\n" % (i, i) for i in range(6))})
        two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx)
        assert sorted(os.listdir(tmp_path / "o")) == ["r%d" % i for i in range(6)]
        assert not s.barrier.broken and s.asked == {"i%d" % i for i in range(6)}
        loads = [e["name"].rsplit("/", 1)[1] for e in two.events() if e["type"] == "vertex" and "load metadata" in e["name"] and "completed_ns" not in e]
        assert loads == ["i%d:latest" % i for i in range(6)]
    finally:
        s.shutdown()
        s.server_close()


def test_one_image_that_is_missing_fails_the_build_and_lets_go_of_the_others(two, reg, tmp_path):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "".join("FROM %s AS s%d\n" % (reg.ref("base:latest" if i != 3 else "absent:1"), i) for i in range(5))
                                     + "FROM scratch\n" + "".join("COPY --from=s%d /bin/vi /v%d\n" % (i, i) for i in range(5))})
    r = two.build("-o", "type=cacheonly", ctx, check=False)
    assert "absent:1: not found" in r.text, r.text
    open_steps = {}
    for e in two.events():
        if e["type"] == "vertex":
            open_steps[e["digest"]] = "completed_ns" not in e
    assert not any(open_steps.values()), open_steps
    assert two.builds()[0]["status"] == "failed"
