"""Requests of no sense, tokens that do not hold, and more that users get wrong."""
import http.client
import json
import re
import socket

import pytest

from harness import cluster
from harness.cluster import context


@pytest.fixture
def ctx(tmp_path):
    def make(dockerfile, **files):
        return context(tmp_path / "ctx", dict(files, Dockerfile=dockerfile))
    return make


def fails(r, code, *texts):
    assert r.rc == code, "exit %d\n%s" % (r.rc, r.text)
    for t in texts:
        assert t in r.text, "%r is not in:\n%s" % (t, r.text)


# ---- what users get wrong

def test_coordinator_that_went_away_is_named(tmp_path, ctx):
    there = cluster.Cluster(tmp_path / "gone", workers=0)
    try:
        there.start()
    finally:
        there.stop()
    fails(there.build(ctx("FROM scratch\n"), check=False), 3, "builder 'cluster'")
    fails(there.bxc("inspect", "cluster"), 3, there.http)


def test_token_that_no_longer_holds(fresh, ctx):
    c = fresh(workers=0)
    channel = c.api("/v1/info")["channel"][0]
    c.coordinator.stop()
    with open(c.path("coordinator", "client.token"), "w") as f:
        f.write("1" * 64 + "\n")
    c.start_coordinator(listen=c.http, channel=channel)
    fails(c.build(ctx("FROM scratch\n"), check=False), 4, "token")


def test_command_lines_of_no_sense(two, ctx):
    c = ctx("FROM scratch\n")
    fails(two.bxc("biuld", c), 2, "did you mean 'build'?")
    fails(two.build(check=False), 2)
    fails(two.build("-o", "type=local", c, check=False), 2, "dest is required")
    fails(two.build("--push", c, check=False), 2, "tag is needed when pushing to registry")
    fails(two.build("--platform", "l/i/n/u/x", c, check=False), 2, "--platform")


def test_unknown_stage_names_the_near_one(two, ctx):
    fails(two.build("--target", "biuld", ctx("FROM scratch AS build\n"), check=False), 1,
          'target stage "biuld" could not be found', "did you mean build?")


def test_error_of_a_step_is_kept_with_its_details(two, reg, ctx):
    r = two.build(ctx("FROM %s\nENV a=b\nRUN echo before; echo of-stderr >&2; exit 42\n" % reg.ref("base:latest")), check=False)
    fails(r, 1, "3 | >>> RUN echo before", "2 |     ENV a=b")
    tail = re.search(r"^------\n > (.*):\n(.*?)^------$", r.text, re.M | re.S)
    assert tail and "RUN echo before" in tail.group(1), r.text
    assert "before" in tail.group(2) and "of-stderr" in tail.group(2)
    b = two.builds()[0]
    assert b["status"] == "failed"
    details = two.api("/v1/builds/" + b["id"])["error"]["details"]
    assert details["exit_code"] == "42" and details["line"] == "3"


def test_run_of_what_is_not_there(two, reg, ctx):
    fails(two.build(ctx("FROM %s\nRUN [\"/no/such/program\"]\n" % reg.ref("base:latest")), check=False), 1, "/no/such/program", "2 | >>> RUN")


def test_platform_that_nobody_has(two, reg, ctx):
    fails(two.build("--platform", "linux/s390x", ctx("FROM %s\nRUN true\n" % reg.ref("base:latest")), check=False), 1, "linux/s390x")


# ---- the API

def call(c, method, path, body=None, headers=None):
    h = {"Authorization": "Bearer " + c.token()}
    h.update(headers or {})
    conn = http.client.HTTPConnection(c.http, timeout=30)
    try:
        conn.request(method, path, body=body, headers={k: v for k, v in h.items() if v is not None})
        r = conn.getresponse()
        return r.status, json.loads(r.read())
    finally:
        conn.close()


def refused(answer, status=None):
    assert 400 <= answer[0] < 500 and (status is None or answer[0] == status), answer
    e = answer[1]["error"]
    assert isinstance(e["code"], str) and isinstance(e["message"], str) and e["message"], answer
    return e


GOOD = {"session": "x", "dockerfile": {"name": "Dockerfile", "data": "RlJPTSBzY3JhdGNoCg=="}, "exports": []}
BODIES = {
    "cut": b'{"session": ', "empty": b"", "number": b"1", "not UTF-8": b'{"session": "\xff\xfe"}', "deep": b"[" * 100000,
    "key twice": b'{"session":"a","session":"b"}', "nothing in it": b"{}",
    "session is a number": dict(GOOD, session=1), "dockerfile is text": dict(GOOD, dockerfile="FROM scratch"),
    "no base64": dict(GOOD, dockerfile={"name": "Dockerfile", "data": "%%%"}),
    "exports is an object": dict(GOOD, exports={}), "export of no kind": dict(GOOD, exports=[{"type": "floppy", "attrs": {}}]),
    "args is a list": dict(GOOD, build_args=["a"]), "arg is a number": dict(GOOD, build_args={"a": 1}),
    "platforms is text": dict(GOOD, platforms="linux/amd64"), "platform of no form": dict(GOOD, platforms=["///"]),
    "no such session": GOOD,
}


@pytest.mark.parametrize("name", BODIES)
def test_build_requests_of_no_sense(two, name):
    before = len(two.builds())
    body = BODIES[name]
    refused(call(two, "POST", "/v1/builds", body if isinstance(body, bytes) else json.dumps(body).encode()))
    assert len(two.builds()) == before


def test_header_that_is_too_long(two):
    host, port = two.http.split(":")
    with socket.create_connection((host, int(port)), 30) as s:
        try:
            s.sendall(b"GET /v1/info HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (4 << 20) + b"\r\n\r\n")
            first = s.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            first = b""
    assert not first or first.split()[1].startswith(b"4"), first
    assert two.api("/v1/info")["version"]


def test_paths_methods_and_ids_of_no_meaning(two):
    refused(call(two, "GET", "/v1/nothing"), 404)
    refused(call(two, "DELETE", "/v1/builds"), 405)
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
        refused(call(two, method, "/v1/builds/no-such-build" + path), 404)
    refused(call(two, "GET", "/v1/blobs/sha256:" + "0" * 64), 404)
    refused(call(two, "GET", "/v1/blobs/..%2f..%2fclient.token"))
    refused(call(two, "GET", "/v1/blobs/sha256:..%2f..%2fclient.token"))


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Bearer " + "0" * 64, "Basic eDp5", "Bearer " + "x" * 5000])
def test_tokens_that_do_not_hold(two, value):
    for path in ("/v1/builds", "/v1/workers", "/v1/info", "/v1/blobs/sha256:" + "0" * 64):
        e = refused(call(two, "GET", path, headers={"Authorization": value}), 401)
        assert e["code"] == "UNAUTHENTICATED" and "0" * 64 not in e["message"]
    refused(call(two, "POST", "/v1/builds", b"{}", headers={"Authorization": value}), 401)


def test_token_of_workers_may_not_build(two):
    refused(call(two, "POST", "/v1/builds", b"{}", headers={"Authorization": "Bearer " + two.token("worker")}), 403)
