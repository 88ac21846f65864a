"""Options of RUN steps, and entitlements."""
import json
import os
import re

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
