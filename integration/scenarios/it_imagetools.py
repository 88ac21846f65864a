"""Images in registries, looked at and put together by the client alone."""
import base64
import http.server
import json
import os
import socketserver
import threading
import urllib.request

import pytest

from harness.cluster import context


@pytest.fixture
def tools(two, tmp_path):
    def run(*args, check=True, **env):
        return two.bxc("imagetools", *args, check=check, env=env)
    return run


@pytest.fixture
def images(two, reg, tmp_path):
    """An index of two platforms with attestations, and one image."""
    many = context(tmp_path / "many", {"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": os.urandom(8).hex()})
    one = context(tmp_path / "one", {"Dockerfile": "FROM scratch\nCOPY f /g\n", "f": os.urandom(8).hex()})
    two.build("--platform", "linux/amd64,linux/arm64", "-t", reg.ref("tools/many:x"), "--push", many)
    two.build("--platform", "linux/s390x", "--provenance=false", "-t", reg.ref("tools/one:x"), "--push", one)
    return reg.ref("tools/many:x"), reg.ref("tools/one:x")


def test_inspect(tools, reg, images):
    many, one = images
    raw = reg.get("tools/many", "manifests", "x")
    assert tools("inspect", "--raw", many).raw == raw
    out = tools("inspect", many).out
    digest = tools("inspect", "--format", "{{.Manifest.Digest}}", many).out.strip()
    assert "Digest:      %s\n" % digest in out and out.count("Platform:  linux/") == 2 and "attestation-manifest" in out, out
    shown = json.loads(tools("inspect", "--format", "{{json .Manifest}}", many).out)
    assert shown["manifests"] == json.loads(raw)["manifests"] and shown["digest"] == digest
    assert "Manifests:" not in tools("inspect", one).out
    tools("inspect", reg.ref("tools/none:x"), check=False).fails(1, "not found")
    tools("inspect", "--format", "{{.Nope}}", one, check=False).fails(2, "this version knows")


def test_create(tools, reg, images):
    many, one = images
    # One index stays what it is, with all that it names, in another repository, too.
    tools("create", "-t", reg.ref("tools/copy:y"), many)
    assert reg.get("tools/copy", "manifests", "y") == reg.get("tools/many", "manifests", "x")
    for m in reg.document("tools/copy", "y")["manifests"]:
        inner = json.loads(reg.get("tools/copy", "manifests", m["digest"]))
        for d in [inner["config"]] + inner["layers"]:
            assert reg.get("tools/copy", "blobs", d["digest"])
    # Several become one; what is there twice is there once; an image tells of what platform it is.
    dry = json.loads(tools("create", "--dry-run", many, one, many).out)
    assert [m["platform"]["architecture"] for m in dry["manifests"]] == ["amd64", "arm64", "unknown", "unknown", "s390x"]
    tools("create", "-t", reg.ref("tools/all:z"), "--annotation", "index:a=b", one)
    index = reg.document("tools/all", "z")
    assert index["annotations"] == {"a": "b"} and len(index["manifests"]) == 1
    tools("create", "--append", "-t", reg.ref("tools/all:z"), many)
    assert [m["platform"]["architecture"] for m in reg.document("tools/all", "z")["manifests"]] == ["s390x", "amd64", "arm64", "unknown", "unknown"]
    tools("create", "--prefer-index=false", "-t", reg.ref("tools/plain:z"), one)
    assert reg.get("tools/plain", "manifests", "z") == reg.get("tools/one", "manifests", "x")
    tools("create", one, check=False).fails(2, "-t")
    tools("create", "-t", reg.ref("tools/bad:z"), reg.ref("tools/none:x"), check=False).fails(1, "not found")
    assert not reg.has("tools/bad", "z")


class Guarded(http.server.BaseHTTPRequestHandler):
    """A registry behind a password: passes on to the one of the tests."""

    def do_GET(self):
        want = "Basic " + base64.b64encode(b"ann:secret").decode()
        self.server.seen.append(self.headers.get("Authorization"))
        if self.headers.get("Authorization") != want:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        req = urllib.request.Request("http://%s%s" % (self.server.behind, self.path), headers={"Accept": self.headers.get("Accept", "")})
        with urllib.request.urlopen(req) as r:
            data = r.read()
            self.send_response(200)
            for k in ("Content-Type", "Docker-Content-Digest"):
                if r.headers.get(k):
                    self.send_header(k, r.headers[k])
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *args):
        pass


def test_credentials_of_the_user(tools, reg, images, tmp_path):
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Guarded)
    server.behind, server.seen, server.daemon_threads = reg.addr, [], True
    t = threading.Thread(target=server.serve_forever)
    t.start()
    try:
        name = "127.0.0.1:%d/tools/one:x" % server.server_address[1]
        (tmp_path / "docker").mkdir()
        tools("inspect", name, check=False, DOCKER_CONFIG=str(tmp_path / "docker")).fails(1, name.split("/")[0])
        auths = {"auths": {name.split("/")[0]: {"auth": base64.b64encode(b"ann:secret").decode()}}}
        (tmp_path / "docker" / "config.json").write_text(json.dumps(auths))
        assert tools("inspect", "--raw", name, DOCKER_CONFIG=str(tmp_path / "docker")).raw == reg.get("tools/one", "manifests", "x")
    finally:
        server.shutdown()
        t.join()
        server.server_close()
    # Given only when it was asked for.
    assert server.seen[0] is None
