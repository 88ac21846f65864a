"""What a user does wrong, and what strangers send: one clear error, nothing half done."""
import gzip
import hashlib
import io
import json
import os
import socket
import subprocess
import tarfile
import urllib.error
import urllib.request

import pytest

from harness import registry
from harness.cluster import context


def fails(two, tmp_path, dockerfile, *args, files=None, rc=1):
    ctx = context(tmp_path / "ctx", dict(files or {}, Dockerfile=dockerfile))
    r = two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), *args, ctx, check=False)
    assert r.rc == rc, r.text
    return r.text


def test_unreachable_coordinator_is_exit_3_and_named(two, tmp_path):
    port = registry.free_port()
    r = two.bxc("create", "--name", "gone", "http://127.0.0.1:%d" % port)
    assert r.rc == 3 and "127.0.0.1:%d" % port in r.err


def test_wrong_token_is_exit_4(two, tmp_path):
    (tmp_path / "t").write_text("not-the-token-of-this-cluster\n")
    r = two.bxc("create", "--name", "x", "--token-file", tmp_path / "t", "http://" + two.http)
    assert r.rc == 4 and "token" in r.err


def test_unknown_builder(two, tmp_path):
    r = two.bxc("--builder=nope", "build", str(tmp_path))
    assert r.rc == 1 and 'no builder "nope" found' in r.err


def test_missing_dockerfile(two, tmp_path):
    r = two.build(str(tmp_path), check=False)
    assert r.rc == 1 and "failed to read dockerfile: open Dockerfile: no such file or directory" in r.err


def test_missing_copy_source_shows_the_line(two, tmp_path):
    text = fails(two, tmp_path, "FROM scratch\nCOPY missing /x\n")
    assert '"/missing": not found' in text and "Dockerfile:2" in text and "   2 | >>> COPY missing /x" in text
    assert not (tmp_path / "o").exists()


def test_unknown_image_and_registry_down(two, reg, tmp_path):
    text = fails(two, tmp_path, "FROM %s\n" % reg.ref("base:no-such-tag"))
    assert "base:no-such-tag" in text and "not found" in text and "Dockerfile:1" in text
    port = registry.free_port()
    text = fails(two, tmp_path, "FROM 127.0.0.1:%d/x\n" % port)
    assert "127.0.0.1:%d" % port in text and "cannot be reached" in text


def test_unknown_and_unsupported_flags_are_usage_errors(two, tmp_path):
    r = two.build("--no-cahce", str(tmp_path), check=False)
    assert r.rc == 2 and "--no-cache" in r.err and len(r.err.strip().splitlines()) <= 2
    r = two.build("--secret", "id=a", str(tmp_path), check=False)
    assert r.rc == 2 and "--secret is not supported" in r.err


def test_unknown_instruction_is_named_with_a_suggestion(two, tmp_path):
    text = fails(two, tmp_path, "FROM scratch\n\nCPOY a b\n")
    assert "Dockerfile:3" in text and "CPOY" in text and "COPY" in text


def test_unsupported_instruction_form_is_named(two, reg, tmp_path):
    text = fails(two, tmp_path, "FROM %s\nRUN --mount=type=secret,id=a cat /run/secrets/a\n" % reg.ref("base:latest"))
    assert "Dockerfile:2" in text and "secret" in text and "not supported" in text


def test_failing_step_shows_log_excerpt_and_exit_code(two, reg, tmp_path):
    text = fails(two, tmp_path, "FROM %s\nRUN echo before; exit 3\n" % reg.ref("base:latest"))
    assert 'process "/bin/sh -c echo before; exit 3" did not complete successfully: exit code: 3' in text
    assert "   2 | >>> RUN echo before; exit 3" in text and " > [2/2] RUN echo before; exit 3:" in text
    assert text.rstrip().splitlines()[-1].startswith("ERROR: failed to build")


@pytest.mark.parametrize("body,status", [
    (b"{", 400), (b"[]", 400), (b'{"dockerfile":1}', 400), (b'{"dockerfile":{"name":"x","data":"%%"}}', 400),
    (b'{"dockerfile":{"name":"D","data":""},"platforms":["linux/nope"]}', 400), (b'{"a":1,"a":2}', 400),
    (b'{"dockerfile":{"name":"D","data":""},"exports":[{"type":"bogus"}]}', 400), (b"[" * 5000, 400)])
def test_malformed_requests_get_one_json_error(two, body, status):
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(two.request("/v1/builds", method="POST", body=body))
    assert e.value.code == status
    err = json.loads(e.value.read())["error"]
    assert err["code"] and err["message"]


def test_api_needs_its_token(two):
    for token in ("", "wrong-token-wrong-token"):
        with pytest.raises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(two.request("/v1/builds", token=token))
        assert e.value.code == 401
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(two.request("/v1/builds", token=two.token("worker")))
    assert e.value.code == 403


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


def layer(entries):
    bio = io.BytesIO()
    with tarfile.open(fileobj=bio, mode="w") as t:
        for name, kind, data in entries:
            i = tarfile.TarInfo(name)
            i.type = kind
            if kind == tarfile.REGTYPE:
                i.size = len(data)
                t.addfile(i, io.BytesIO(data))
            else:
                i.linkname = data
                t.addfile(i)
    return bio.getvalue()


def push(reg, repo, plain, blob=None):
    """Pushes an image of one layer, by hand. `blob`: what the registry gives instead of the layer."""
    gz = gzip.compress(plain, mtime=0)
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]}}).encode()

    def put(b):
        d = "sha256:" + hashlib.sha256(b).hexdigest()
        r = urllib.request.urlopen(urllib.request.Request("http://%s/v2/%s/blobs/uploads/" % (reg.addr, repo), method="POST", data=b""))
        loc = r.headers["Location"]
        urllib.request.urlopen(urllib.request.Request(loc + ("&" if "?" in loc else "?") + "digest=" + d, method="PUT", data=b,
                                                      headers={"Content-Type": "application/octet-stream"}))
        return d
    layer_d, config_d = put(gz), put(config)
    m = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_d, "size": len(config)},
                    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer_d, "size": len(gz)}]}).encode()
    urllib.request.urlopen(urllib.request.Request("http://%s/v2/%s/manifests/latest" % (reg.addr, repo), method="PUT", data=m,
                                                  headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"}))
    if blob is not None:
        h = layer_d.split(":")[1]
        with open(os.path.join(reg.folder, "data/docker/registry/v2/blobs/sha256", h[:2], h, "data"), "wb") as f:
            f.write(blob)
    return reg.ref(repo + ":latest")


def test_a_blob_with_another_digest_is_refused(two, reg, tmp_path):
    plain = layer([("f", tarfile.REGTYPE, os.urandom(100))])
    good = gzip.compress(plain, mtime=0)
    ref = push(reg, "evil/digest", plain, blob=bytes([good[0]]) + bytes([good[1]]) + b"x" * (len(good) - 2))
    text = fails(two, tmp_path, "FROM %s\nCOPY Dockerfile /x\n" % ref)
    assert "digest" in text and "ERROR: failed to build" in text


@pytest.mark.parametrize("name,entries", [
    ("dotdot", [("../../../../../../tmp/bxc-evil-dotdot", tarfile.REGTYPE, b"x")]),
    ("absolute", [("/tmp/bxc-evil-absolute", tarfile.REGTYPE, b"x")]),
    ("symlink", [("d", tarfile.SYMTYPE, "/tmp"), ("d/bxc-evil-symlink", tarfile.REGTYPE, b"x")]),
    ("updir", [("d", tarfile.SYMTYPE, "../../../../../../../../tmp"), ("d/bxc-evil-updir", tarfile.REGTYPE, b"x")]),
    ("hardlink", [("h", tarfile.LNKTYPE, "../../../../../../etc/passwd")])])
def test_hostile_layers_stay_beneath_their_root(two, reg, tmp_path, name, entries):
    ref = push(reg, "evil/" + name, layer([("ok", tarfile.REGTYPE, os.urandom(20))] + entries))
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nCOPY Dockerfile /x\n" % ref})
    r = two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx, check=False)
    assert not os.path.exists("/tmp/bxc-evil-" + name)
    assert r.rc in (0, 1)
    if r.rc == 1:
        assert entries[-1][0].lstrip("/") in r.text or "link" in r.text, r.text


def test_a_full_disk_is_an_error_not_an_outage(fresh, reg, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)], check=True)
    try:
        c = fresh(workers=0)
        c.add_worker("small", state=str(disk / "state"))
        ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN dd if=/dev/zero of=/big bs=1M count=64\n" % reg.ref("base:latest")})
        r = c.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx, check=False)
        assert r.rc == 1 and "No space left on device" in r.text
        # The worker is still there for what fits.
        ok = context(tmp_path / "ok", {"Dockerfile": "FROM %s\nRUN echo fits > /f\n" % reg.ref("base:latest")})
        c.build("-o", "type=local,dest=%s" % (tmp_path / "o2"), ok)
        c.workers["small"].stop()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
