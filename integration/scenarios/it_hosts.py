"""Machines of their own: each program has a network of its own, and all that crosses is TLS."""
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time

import pytest

from harness import procs, registry
from harness.cluster import Result, context
from harness.follow import read_until

HOSTS = {"hub": None, "coordinator": "10.77.0.1", "w1": "10.77.0.11", "w2": "10.77.0.12", "w3": "10.77.0.13", "client": "10.77.0.21"}


class Network:
    """Namespaces joined by a bridge that has a namespace too: nothing is seen outside."""

    def __init__(self):
        self.tag = "bxct%d" % os.getpid()

    def ns(self, host):
        return "%s-%s" % (self.tag, host)

    def ip(self, host, *args):
        subprocess.run(["ip", "-n", self.ns(host)] + list(args), check=True, capture_output=True)

    def enter(self, host, argv, **kw):
        return subprocess.run(procs.inside(self.ns(host), argv), **kw)

    def start(self):
        for host in HOSTS:
            subprocess.run(["ip", "netns", "add", self.ns(host)], check=True)
            self.ip(host, "link", "set", "lo", "up")
        self.ip("hub", "link", "add", "br0", "type", "bridge")
        self.ip("hub", "link", "set", "br0", "up")
        for host, addr in HOSTS.items():
            if not addr:
                continue
            self.ip("hub", "link", "add", "v-" + host, "type", "veth", "peer", "name", "eth0", "netns", self.ns(host))
            self.ip("hub", "link", "set", "v-" + host, "master", "br0")
            self.ip("hub", "link", "set", "v-" + host, "up")
            self.ip(host, "addr", "add", addr + "/24", "dev", "eth0")
            self.ip(host, "link", "set", "eth0", "up")

    def sent(self, host):
        out = self.enter(host, ["ip", "-j", "-s", "link", "show", "eth0"], check=True, capture_output=True).stdout
        return json.loads(out)[0]["stats64"]["tx"]["bytes"]

    def stop(self):
        have = {n["name"] for n in json.loads(subprocess.run(["ip", "-j", "netns", "list"], capture_output=True).stdout or b"[]")}
        for host in HOSTS:
            if self.ns(host) in have:
                subprocess.run(["ip", "netns", "del", self.ns(host)], check=True)


class NetRegistry(registry.Registry):
    def __init__(self, net, folder):
        super().__init__(folder, host=HOSTS["coordinator"], netns=net.ns("coordinator"))
        self.net = net

    # The port of another network cannot be tried out from here.
    def pick_port(self):
        return 5000

    def answers(self):
        code = "import socket; socket.create_connection((%r, %d), 1)" % (self.host, self.port)
        return self.net.enter("coordinator", ["/usr/bin/python3", "-c", code], capture_output=True).returncode == 0

    def make_base(self, name):
        script = os.path.join(registry.HERE, "..", "examples", "make-base")
        self.net.enter("coordinator", [script, self.ref(name)], check=True, capture_output=True)


def certificates(folder):
    """An authority, and a certificate of each daemon for its address; another authority."""
    def openssl(*args):
        subprocess.run(["openssl"] + list(args), cwd=folder, check=True, capture_output=True)
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    for who in ("coordinator", "w1", "w2", "w3"):
        openssl("req", *ec, "-keyout", who + ".key", "-out", "csr.pem", "-subj", "/CN=" + who)
        with open(os.path.join(folder, "ext"), "w") as f:
            f.write("subjectAltName=IP:%s\n" % HOSTS[who])
        openssl("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", who + ".pem")
    openssl("req", "-x509", *ec, "-keyout", "other.key", "-out", "other.pem", "-days", "2", "-subj", "/CN=another authority")


class Hosts:
    def __init__(self, net, folder):
        self.net, self.folder = net, str(folder)
        self.daemons = []
        certificates(self.folder)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def start(self):
        c = HOSTS["coordinator"]
        self.run("coordinator", "bxc-coordinator", "--listen", c + ":7650", "--channel-listen", "tls+tcp://%s:7651" % c, "--tls-cert", self.path("coordinator.pem"),
                 "--tls-key", self.path("coordinator.key"), "--insecure-registry", c + ":5000", "--peer-grace", "60s")
        for w in ("w1", "w2", "w3"):
            self.run(w, "bxc-worker", *self.worker_args(w), "--tls-cert", self.path(w + ".pem"), "--tls-key", self.path(w + ".key"))
        self.bxc("create", "--name", "net", "--ca", self.path("ca.pem"), "--token-file", self.path("coordinator", "client.token"), "--use",
                 "https://%s:7650" % c, check=True)

    def worker_args(self, w, **more):
        given = {"name": w, "coordinator": "https://%s:7650" % HOSTS["coordinator"], "tls-ca": self.path("ca.pem"), "slots": "1",
                 "token-file": self.path("coordinator", "worker.token"), "peer-listen": HOSTS[w] + ":0", **more}
        return [a for k, v in given.items() for a in ("--" + k, v)]

    def curl(self, *args):
        return self.net.enter("client", ["curl", "-sS", "--max-time", "20", *args], capture_output=True, text=True)

    def peers(self):
        """The addresses at which workers say that they serve layers."""
        with open(self.path("coordinator", "client.token")) as f:
            auth = "Authorization: Bearer " + f.read().strip()
        r = self.curl("--cacert", self.path("ca.pem"), "-H", auth, "https://%s:7650/v1/workers" % HOSTS["coordinator"])
        return {w["name"]: w["peer_url"] for w in json.loads(r.stdout)["workers"]}

    def run(self, host, program, *args):
        d = procs.Daemon([procs.program(program), "--state-dir", self.path(host)] + list(args), self.path(host + ".log"), netns=self.net.ns(host))
        d.start()
        self.daemons.append(d)

    def stop(self):
        for d in reversed(self.daemons):
            d.stop()

    def bxc(self, *args, check=False):
        env = procs.path_env({"BXC_CONFIG": self.path("config"), "HOME": self.path("home")})
        r = Result(self.net.enter("client", [procs.program("bxc")] + [str(a) for a in args], env=env, capture_output=True, timeout=120))
        if check:
            assert r.rc == 0, "exit %d\n%s\n%s" % (r.rc, r.text, "\n".join(procs.tail(d.log, 8) for d in self.daemons))
        return r


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    net = Network()
    h = r = None
    try:
        net.start()
        r = NetRegistry(net, folder / "registry")
        r.start()
        r.make_base("base:latest")
        h = Hosts(net, folder)
        h.registry = r
        h.start()
        yield h
    finally:
        if h:
            h.stop()
        if r:
            r.stop()
        net.stop()


def test_what_is_known_of_a_context_is_not_sent_again(hosts, tmp_path):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY src /src\n", **{"src/%d/%d" % (i % 50, i): os.urandom(40) for i in range(3000)}})
    out = tmp_path / "o"

    def sent():
        before = hosts.net.sent("client")
        hosts.bxc("build", "-o", "type=local,dest=%s" % out, ctx, check=True)
        return hosts.net.sent("client") - before
    # Digests alone are 96 kB.
    first, unchanged = sent(), sent()
    assert first > 200000 and unchanged < 48000, (first, unchanged)
    (tmp_path / "ctx/src/7/7").write_text("changed")
    (tmp_path / "ctx/src/8/8").unlink()
    (tmp_path / "ctx/src/9/new").write_text("new")
    changed = sent()
    assert changed < 48000, changed
    assert (out / "src/7/7").read_text() == "changed" and (out / "src/9/new").read_text() == "new"


def test_a_client_that_is_cut_off_for_a_while_misses_nothing(hosts, tmp_path):
    n = 210
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN : %s; i=0; while [ $i -lt %d ]; do i=$((i+1)); echo line-$i; sleep 0.25; done; echo end > /end\n"
                                     % (hosts.registry.ref("base:latest"), os.urandom(4).hex(), n)})
    env = procs.path_env({"BXC_CONFIG": hosts.path("config"), "HOME": hosts.path("home")})
    out = tmp_path / "o"
    p = subprocess.Popen(procs.inside(hosts.net.ns("client"), [procs.program("bxc"), "build", "--progress", "plain", "-o", "type=local,dest=%s" % out, ctx]),
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, bufsize=0)
    text = ""
    # Each cut is as long as it is; the step goes on meanwhile, and is still running after the second.
    for seconds in (5, 40):
        text += read_until(p, r"line-\d+\n")
        hosts.net.ip("hub", "link", "set", "v-client", "down")
        time.sleep(seconds)
        hosts.net.ip("hub", "link", "set", "v-client", "up")
    text += p.communicate(timeout=60)[0].decode()
    assert p.returncode == 0, text
    assert re.findall(r"^#\d+ [0-9.]+ line-(\d+)$", text, re.M) == [str(i + 1) for i in range(n)], text
    assert (out / "end").read_text() == "end\n"


# What crosses the bridge, into a file, up to a packet with given bytes; a line on stdout when it listens.
SNIFFER = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)
with open(sys.argv[1], "wb", buffering=0) as f:
    print("listening", flush=True)
    packet = b""
    while sys.argv[2].encode() not in packet:
        packet = s.recv(1 << 18)
        f.write(packet)
"""


def test_three_hosts_build_one_image(hosts, tmp_path):
    big = "dd if=/dev/urandom of=/{0} bs=1M count=4 2>/dev/null; sleep 1; echo ran-on $(ip -o -4 addr show dev eth0 2>/dev/null || true)"
    base = hosts.registry.ref("base:latest")
    ctx = context(tmp_path / "ctx", {"Dockerfile": "".join("FROM %s AS %s\nCOPY seed /\nRUN %s\n" % (base, s, big.format(s)) for s in "abc")
                                     + "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /\n", "seed": os.urandom(8).hex()})
    before = sum(hosts.net.sent(w) for w in ("w1", "w2", "w3"))
    first = hosts.bxc("build", "--progress=rawjson", "-o", "type=cacheonly", ctx, check=True)
    # No result went to the client and nothing was pushed: what workers sent, they sent to each other.
    assert sum(hosts.net.sent(w) for w in ("w1", "w2", "w3")) - before > 8 << 20, first.err
    ran = [w for w in ("w1", "w2", "w3") if os.listdir(hosts.path(w, "snapshots"))]
    assert len(ran) >= 2
    out = tmp_path / "o"
    again = hosts.bxc("build", "--progress=plain", "-o", "type=local,dest=%s" % out, "-t", hosts.registry.ref("made:1"), "--push", ctx, check=True)
    assert any("RUN" in n for n in again.cached()), again.text
    assert {n: os.stat(out / n).st_size for n in os.listdir(out)} == {n: 4 << 20 for n in "abc"}
    look = hosts.net.enter("client", ["skopeo", "inspect", "--tls-verify=false", "docker://" + hosts.registry.ref("made:1")], capture_output=True)
    assert look.returncode == 0, look.stderr


def test_layers_and_their_token_cross_by_tls_only(hosts, tmp_path):
    base, marker = hosts.registry.ref("base:latest"), os.urandom(12).hex()
    stages = "".join("FROM %s AS %s\nRUN sleep 1; dd if=/dev/urandom of=/%s bs=1M count=1 2>/dev/null; echo %s-%s > /m%s\n" % (base, s, s, marker, s, s)
                     for s in "abc")
    ctx = context(tmp_path / "ctx", {"Dockerfile": stages + "FROM scratch\nCOPY --from=a /a /ma /\nCOPY --from=b /b /mb /\nCOPY --from=c /c /mc /\n"})
    seen = tmp_path / "seen"
    before = sum(hosts.net.sent(w) for w in ("w1", "w2", "w3"))
    sniffer = subprocess.Popen(procs.inside(hosts.net.ns("hub"), ["/usr/bin/python3", "-c", SNIFFER, str(seen), "in-the-clear"]), stdout=subprocess.PIPE)
    try:
        assert sniffer.stdout.readline() == b"listening\n"
        hosts.bxc("build", "-o", "type=cacheonly", ctx, check=True)
        assert sum(hosts.net.sent(w) for w in ("w1", "w2", "w3")) - before > 1 << 20
        # The registry of this network has no TLS: what is in the clear is seen, and ends the watch.
        hosts.net.enter("client", ["curl", "-s", "http://%s/v2/?%s" % (hosts.registry.ref("").split("/")[0], "in-the-clear")], check=True, capture_output=True)
        assert sniffer.wait(30) == 0
    finally:
        sniffer.kill()
        sniffer.wait()
    # The coordinator holds its store to itself: a copy is read.
    for name in os.listdir(hosts.path("coordinator")):
        if name.startswith("state.db") and not name.endswith("-shm"):
            shutil.copy(hosts.path("coordinator", name), tmp_path / name)
    with sqlite3.connect(tmp_path / "state.db") as db:
        token = db.execute("SELECT value FROM settings WHERE key='peer_token'").fetchone()[0]
    dump = seen.read_bytes()
    assert len(token) >= 32 and token.encode() not in dump and marker.encode() not in dump and b"/v1/blobs/" not in dump


def test_the_server_of_layers_speaks_tls_only(hosts):
    peers = hosts.peers()
    assert sorted(peers) == ["w1", "w2", "w3"]
    for w, url in peers.items():
        assert url.startswith("https://%s:" % HOSTS[w]), peers
        blob = url + "/v1/blobs/sha256:" + "0" * 64
        r = hosts.curl("--cacert", hosts.path("ca.pem"), "-o", os.devnull, "-w", "%{http_code}", blob)
        assert r.stdout == "401", r
        r = hosts.curl("--cacert", hosts.path("other.pem"), "--capath", hosts.folder, "-o", os.devnull, blob)
        assert r.returncode == 60, r
        r = hosts.curl("-o", os.devnull, "-w", "%{http_code}", blob.replace("https://", "http://"))
        assert r.returncode != 0 and r.stdout == "000", r


@pytest.mark.parametrize("given, told", [
    ({}, "not a loopback address: give --tls-cert"),
    ({"tls-cert": "w1.pem", "tls-key": "w1.key"}, "does not hold for other workers that dial 'https://10.77.0.12:"),
    ({"tls-cert": "w2.pem", "tls-key": "w1.key"}, "key"),
    ({"tls-cert": "w2.pem", "tls-key": "w2.key", "peer-advertise": "http://10.77.0.12:7660"}, "not of the form https://host:port"),
    ({"tls-cert": "w2.pem", "tls-key": "w2.key", "peer-listen": "0.0.0.0:0"}, "give --peer-advertise"),
    ({"peer-listen": "none", "coordinator": "http://10.77.0.1:7650"}, "in the clear"),
], ids=["no certificate", "another's certificate", "another's key", "advertised without TLS", "every address", "coordinator without TLS"])
def test_a_worker_that_would_tell_its_token_does_not_start(hosts, tmp_path, given, told):
    args = hosts.worker_args("w2", **{k: hosts.path(v) if k.startswith("tls") else v for k, v in given.items()})
    r = hosts.net.enter("w2", [procs.program("bxc-worker"), "--state-dir", str(tmp_path / "w")] + args, capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and told in r.stderr, r.stderr


def test_another_authority_is_not_trusted(hosts):
    c = HOSTS["coordinator"]
    r = hosts.bxc("create", "--name", "other", "--ca", hosts.path("other.pem"), "--token-file", hosts.path("coordinator", "client.token"), "https://%s:7650" % c)
    assert r.rc == 3 and "certificate" in r.text, r.text
    r = hosts.bxc("create", "--name", "plain", "--token-file", hosts.path("coordinator", "client.token"), "http://%s:7650" % c)
    assert r.rc != 0 and "in the clear" in r.text, r.text
