"""What strangers send to the API and to the port of channels."""
import http.client
import json
import os
import socket

import pytest

from harness.cluster import context


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
    "open": b"{", "list": b"[]", "cut": b'{"session": ', "empty": b"", "number": b"1", "not UTF-8": b'{"session": "\xff\xfe"}', "deep": b"[" * 5000, "deeper": b"[" * 100000,
    "key twice": b'{"session":"a","session":"b"}', "nothing in it": b"{}",
    "session is a number": dict(GOOD, session=1), "dockerfile is text": dict(GOOD, dockerfile="FROM scratch"),
    "no base64": dict(GOOD, dockerfile={"name": "Dockerfile", "data": "%%%"}),
    "exports is an object": dict(GOOD, exports={}), "export of no kind": dict(GOOD, exports=[{"type": "floppy", "attrs": {}}]),
    "args is a list": dict(GOOD, build_args=["a"]), "arg is a number": dict(GOOD, build_args={"a": 1}),
    "platforms is text": dict(GOOD, platforms="linux/amd64"), "platform of no form": dict(GOOD, platforms=["///"]),
    "field of another kind": b'{"dockerfile":1}', "platform nobody knows": dict(GOOD, platforms=["linux/nope"]),
}


@pytest.mark.parametrize("name", BODIES)
def test_build_requests_of_no_sense(two, name):
    before = len(two.builds())
    body = BODIES[name]
    refused(call(two, "POST", "/v1/builds", body if isinstance(body, bytes) else json.dumps(body).encode()), 400)
    assert len(two.builds()) == before


def test_session_that_is_not_there(two):
    before = len(two.builds())
    refused(call(two, "POST", "/v1/builds", json.dumps(GOOD).encode()), 412)
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


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Bearer " + "0" * 64, "Bearer wrong-token-wrong-token", "Basic eDp5", "Bearer " + "x" * 5000])
def test_tokens_that_do_not_hold(two, value):
    for path in ("/v1/builds", "/v1/workers", "/v1/info", "/v1/blobs/sha256:" + "0" * 64):
        e = refused(call(two, "GET", path, headers={"Authorization": value}), 401)
        assert e["code"] == "UNAUTHENTICATED" and "0" * 64 not in e["message"]
    refused(call(two, "POST", "/v1/builds", b"{}", headers={"Authorization": value}), 401)


def test_token_of_workers_may_not_build(two):
    for method, body in (("POST", b"{}"), ("GET", None)):
        refused(call(two, method, "/v1/builds", body, headers={"Authorization": "Bearer " + two.token("worker")}), 403)


def test_large_bodies_and_ambiguous_lengths_are_refused(two):
    host, port = two.http.split(":")
    auth = "Authorization: Bearer %s\r\n" % two.token()
    for head, want in (("Content-Length: 999999999\r\n", b"413"), ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"400")):
        s = socket.create_connection((host, int(port)), 20)
        s.sendall(("POST /v1/builds HTTP/1.1\r\nHost: x\r\n%s%s\r\n" % (auth, head)).encode())
        assert want in s.recv(4096).split(b"\r\n")[0]
        s.close()


def test_garbage_on_the_channel_port_harms_nobody(two, tmp_path):
    info = two.api("/v1/info")
    host, port = info["channel"][0].split("//")[1].split(":")
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\0\0\0\x05\x01\0\0\0\0\0\0\0\0\0\0\0{bad}", os.urandom(4096)):
        s = socket.create_connection((host, int(port)), 20)
        s.sendall(junk)
        while s.recv(4096):
            pass
        s.close()
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), context(tmp_path / "c", {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
