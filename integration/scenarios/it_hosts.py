"""Machines of their own: each program has a network of its own, and all that crosses is TLS."""
import json
import os
import subprocess

import pytest

from harness import procs, registry
from harness.cluster import Result, context

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
    """An authority, and a certificate of the coordinator for its address."""
    def openssl(*args):
        subprocess.run(["openssl"] + list(args), cwd=folder, check=True, capture_output=True)
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    openssl("req", *ec, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=coordinator")
    with open(os.path.join(folder, "ext"), "w") as f:
        f.write("subjectAltName=IP:%s\n" % HOSTS["coordinator"])
    openssl("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", "cert.pem")
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
        self.run("coordinator", "bxc-coordinator", "--listen", c + ":7650", "--channel-listen", "tls+tcp://%s:7651" % c, "--tls-cert", self.path("cert.pem"),
                 "--tls-key", self.path("key.pem"), "--insecure-registry", c + ":5000", "--peer-grace", "5s")
        for w in ("w1", "w2", "w3"):
            self.run(w, "bxc-worker", "--name", w, "--coordinator", "https://%s:7650" % c, "--tls-ca", self.path("ca.pem"),
                     "--token-file", self.path("coordinator", "worker.token"), "--peer-listen", HOSTS[w] + ":0", "--slots", "1")
        self.bxc("create", "--name", "net", "--ca", self.path("ca.pem"), "--token-file", self.path("coordinator", "client.token"), "--use",
                 "https://%s:7650" % c, check=True)

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


def test_another_authority_is_not_trusted(hosts):
    c = HOSTS["coordinator"]
    r = hosts.bxc("create", "--name", "other", "--ca", hosts.path("other.pem"), "--token-file", hosts.path("coordinator", "client.token"), "https://%s:7650" % c)
    assert r.rc == 3 and "certificate" in r.text, r.text
    r = hosts.bxc("create", "--name", "plain", "--token-file", hosts.path("coordinator", "client.token"), "http://%s:7650" % c)
    assert r.rc != 0, r.text
