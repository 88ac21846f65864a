"""Options of RUN steps, entitlements, annotations, and times of results."""
import hashlib
import io
import json
import os
import re
import tarfile

import pytest

from harness.cluster import context


def run(two, reg, tmp_path, dockerfile, *flags, **kw):
    ctx = context(tmp_path / "ctx", {"Dockerfile": dockerfile.replace("BASE", reg.ref("base:latest"))})
    return two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), *flags, ctx, **kw)


def test_hosts_limits_and_shm(two, reg, tmp_path):
    run(two, reg, tmp_path, "FROM BASE\nRUN grep -E 'one|two|gate' /etc/hosts | tr '\\t' ' ' > /r; ulimit -n >> /r; ulimit -Hn >> /r; "
        "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2 >> /r\n",
        "--add-host", "one:10.1.2.3", "--add-host", "two=2001:db8::1", "--add-host", "gate:host-gateway", "--ulimit", "nofile=100:200", "--shm-size", "1m")
    assert (tmp_path / "o" / "r").read_text().splitlines() == ["10.1.2.3 one", "2001:db8::1 two", "127.0.0.1 gate", "100", "200", "1024"]


def test_addresses_and_sizes_are_in_no_key_but_names_and_limits_are(two, reg, tmp_path):
    text = "FROM BASE\nRUN cat /proc/sys/kernel/random/uuid > /r\n"

    def once(*flags):
        run(two, reg, tmp_path, text, *flags)
        return (tmp_path / "o" / "r").read_text()
    first = once("--add-host", "a:1.1.1.1", "--shm-size", "1m")
    assert once("--add-host", "a:2.2.2.2", "--shm-size", "2m") == first
    assert once("--add-host", "b:1.1.1.1") != first
    assert once("--add-host", "a:1.1.1.1", "--ulimit", "nofile=100") != first


def test_network_modes_and_what_they_need(two, reg, tmp_path):
    links = "ls /sys/class/net | tr '\\n' ' '"
    run(two, reg, tmp_path, "FROM BASE\nRUN %s > /r\n" % links, "--network", "none")
    assert (tmp_path / "o" / "r").read_text() == "lo "
    r = run(two, reg, tmp_path, "FROM BASE\nRUN --network=host true\n", check=False)
    r.fails(1, "Dockerfile:2: network.host is not allowed: build with --allow network.host")
    # The client may ask; this coordinator grants nothing.
    for flags in (["--allow", "network.host"], ["--network", "host"]):
        run(two, reg, tmp_path, "FROM BASE\nRUN true\n", *flags, check=False).fails(1, "granting entitlement network.host is not allowed")


def test_entitlements_that_the_coordinator_grants(fresh, reg, tmp_path):
    c = fresh(workers=1, coordinator_args=["--allow-insecure-entitlement", "network.host", "--allow-insecure-entitlement", "security.insecure"])
    text = ("FROM BASE\nRUN --security=insecure grep CapEff /proc/self/status | cut -f2 > /r; mkdir /m; mount -t tmpfs x /m && echo mounted >> /r; umount /m\n"
            "RUN --network=host readlink /proc/self/ns/net >> /r\nRUN grep CapEff /proc/self/status | cut -f2 >> /r\n")
    run(c, reg, tmp_path, text, check=False).fails(1, "security.insecure is not allowed")
    run(c, reg, tmp_path, text, "--allow", "security.insecure,network.host")
    lines = (tmp_path / "o" / "r").read_text().splitlines()
    with open("/proc/self/status") as f:
        own = re.search(r"CapBnd:\t(\S+)", f.read()).group(1)
    assert lines[:2] == [own, "mounted"] and lines[-1] == "00000000a80425fb"
    assert lines[2] == os.readlink("/proc/self/ns/net")


def test_bad_options_of_a_request_name_the_field(two):
    import urllib.error
    for field, value, want in (("extra_hosts", ["a=b;c"], "extra_hosts"), ("ulimits", ["nofile"], "ulimits"), ("network", "bridge", "network"),
                               ("entitlements", ["root"], "entitlements"), ("cgroup_parent", "../x", "cgroup_parent")):
        body = {"dockerfile": {"name": "Dockerfile", "data": "RlJPTSBzY3JhdGNoCg=="}, field: value}
        with pytest.raises(urllib.error.HTTPError) as e:
            two.api("/v1/builds", method="POST", body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
        assert e.value.code == 400 and want in e.value.read().decode()


# ---- annotations

def layout(path):
    """index.json of an OCI layout in a tar, and a way to read its blobs."""
    with tarfile.open(str(path)) as t:
        files = {m.name: t.extractfile(m).read() for m in t.getmembers() if m.isfile()}

    def blob(desc):
        data = files["blobs/sha256/" + desc["digest"].split(":")[1]]
        assert hashlib.sha256(data).hexdigest() == desc["digest"].split(":")[1]
        return data
    return json.loads(files["index.json"]), blob


def test_annotations_of_every_level(two, reg, tmp_path):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": "x"})
    flags = ["--annotation", "plain=0", "--annotation", "manifest:a=1", "--annotation", "index,manifest-descriptor:b=2",
             "--annotation", "manifest[linux/arm64]:a=arm", "--annotation", "index-descriptor:c=3", "--provenance=false"]
    two.build("--platform", "linux/amd64,linux/arm64", *flags, "-o", "type=oci,annotation.org.x=y,dest=%s" % (tmp_path / "o.tar"), ctx)
    index, blob = layout(tmp_path / "o.tar")
    assert index["manifests"][0]["annotations"] == {"c": "3"}
    top = json.loads(blob(index["manifests"][0]))
    assert top["annotations"] == {"b": "2"}
    assert [m["annotations"] for m in top["manifests"]] == [{"b": "2"}, {"b": "2"}]
    said = {m["platform"]["architecture"]: json.loads(blob(m))["annotations"] for m in top["manifests"]}
    assert said == {"amd64": {"a": "1", "org.x": "y", "plain": "0"}, "arm64": {"a": "arm", "org.x": "y", "plain": "0"}}
    two.build(*flags, "-o", "type=oci,dest=%s" % (tmp_path / "p.tar"), ctx, check=False).fails(1, "index annotations not supported for single platform export")
    two.build("-o", "type=oci,annotation-attic.a=1,dest=%s" % (tmp_path / "p.tar"), ctx, check=False).fails(1, 'unrecognized annotation type "attic"')
    assert not (tmp_path / "p.tar").exists()


def test_annotations_are_pushed(two, reg, tmp_path):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": "x"})
    two.build("--push", "-t", reg.ref("annotated:1"), "--provenance=false", "--annotation", "com.example.K=v", ctx)
    assert reg.manifest("annotated", "1")["annotations"] == {"com.example.K": "v"}


# ---- times

EPOCH = 1234567890


def test_rewrite_timestamp_clamps_our_layers(two, reg, tmp_path):
    """1.4 rewrite-timestamp"""
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN mkdir /d && echo x > /d/new && echo y > /d/old && touch -d @1000000000 /d/old\n" % reg.ref("base:latest")})
    env = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    digests = set()
    for i in range(2):
        two.build("--no-cache", "--provenance=false", "-o", "type=oci,rewrite-timestamp=true,dest=%s" % (tmp_path / "o.tar"), ctx, env=env)
        index, blob = layout(tmp_path / "o.tar")
        desc = index["manifests"][0]
        digests.add(desc["digest"])
        assert desc["annotations"]["org.opencontainers.image.created"] == "2009-02-13T23:31:30Z"
        manifest = json.loads(blob(desc))
        with tarfile.open(fileobj=io.BytesIO(blob(manifest["layers"][-1]))) as t:
            times = {m.name: m.mtime for m in t.getmembers()}
        assert times["d"] == EPOCH and times["d/new"] == EPOCH and times["d/old"] == 1000000000
        config = json.loads(blob(manifest["config"]))
        assert config["created"] == "2009-02-13T23:31:30Z"
        with tarfile.open(fileobj=io.BytesIO(blob(manifest["layers"][-1]))) as t:
            assert t.getmembers()
    assert len(digests) == 1, "the same input, another image"


def test_an_exporters_own_epoch_and_times_of_trees(two, reg, tmp_path):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY d /d\n", "d/f": "x"})
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "-o", "type=tar,source-date-epoch=77,dest=%s" % (tmp_path / "t.tar"), ctx, env={"SOURCE_DATE_EPOCH": str(EPOCH)})
    assert {int(os.stat(str(tmp_path / "o" / p)).st_mtime) for p in ("d", "d/f")} == {EPOCH}
    with tarfile.open(str(tmp_path / "t.tar")) as t:
        assert {m.mtime for m in t.getmembers()} == {77}
    two.build("-o", "type=tar,source-date-epoch=soon,dest=%s" % (tmp_path / "u.tar"), ctx, check=False).fails(1, "invalid source-date-epoch: soon")
