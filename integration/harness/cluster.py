"""A coordinator and workers as real processes, and the client that builds on them."""
import json
import os
import re
import signal
import subprocess
import urllib.request

from . import procs


class Result:
    def __init__(self, p):
        self.rc = p.returncode
        self.out = p.stdout.decode(errors="replace")
        self.err = p.stderr.decode(errors="replace")
        self.raw = p.stdout

    @property
    def text(self):
        return self.err + self.out

    def fails(self, code, *texts):
        assert self.rc == code, "exit %d\n%s" % (self.rc, self.text)
        for t in texts:
            assert t in self.text, "%r is not in:\n%s" % (t, self.text)

    def cached(self):
        """Names of the steps that were cached."""
        names = dict(re.findall(r"^#(\d+) (\[.*)$", self.text, re.M))
        return {names[n] for n in re.findall(r"^#(\d+) CACHED$", self.text, re.M) if n in names}


class Cluster:
    def __init__(self, folder, workers=2, grace="5s", worker_args=(), coordinator_args=()):
        self.folder = str(folder)
        self.n_workers, self.grace = workers, grace
        self.worker_args, self.coordinator_args = list(worker_args), list(coordinator_args)
        self.coordinator = None
        self.workers, self.states = {}, {}
        self.http = None

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def start(self):
        os.makedirs(self.folder, exist_ok=True)
        self.start_coordinator()
        for i in range(self.n_workers):
            self.add_worker("worker-%d" % (i + 1))
        self.bxc("create", "--name", "cluster", "--token-file", self.path("coordinator", "client.token"), "http://" + self.http, check=True)
        return self

    def start_coordinator(self, listen="127.0.0.1:0", channel="tcp://127.0.0.1:0"):
        self.coordinator = procs.Daemon([procs.program("bxc-coordinator"), "--state-dir", self.path("coordinator"), "--listen", listen,
                                         "--channel-listen", channel, "--peer-grace", self.grace, "--no-worker-grace", "2s"] + self.coordinator_args,
                                       self.path("coordinator.log")).start()
        self.http = self.coordinator.line
        return self.coordinator

    def add_worker(self, name, state=None):
        self.states[name] = state = state or self.path(name)
        d = procs.Daemon([procs.program("bxc-worker"), "--name", name, "--state-dir", state, "--coordinator", "http://" + self.http,
                          "--token-file", self.path("coordinator", "worker.token"), "--slots", "2"] + self.worker_args,
                         self.path(name + ".log"))
        d.start()
        self.workers[name] = d
        return d

    def stop(self):
        for d in self.workers.values():
            d.stop()
        if self.coordinator:
            self.coordinator.stop()
        left = subprocess.run(["pgrep", "-f", "--", "--root " + self.folder], capture_output=True, text=True).stdout.split()
        assert not left, "processes of steps are left: %s" % left
        mounts = procs.mounts_below(self.folder)
        assert not mounts, "mounts are left: %s" % mounts
        for name, d in self.workers.items():
            groups = procs.groups_of(self.states[name])
            # What was killed would clean up when it starts again.
            if d.p.returncode == -signal.SIGKILL:
                procs.remove_groups(groups)
            else:
                assert not groups, "control groups are left: %s" % groups

    # ---- client

    def env(self):
        return procs.path_env({"BXC_CONFIG": self.path("config"), "BXC_STATE": self.path("embedded"), "HOME": self.path("home")})

    def bxc(self, *args, check=False, timeout=120, cwd=None, stdin=None, env=None):
        e = self.env()
        e.update(env or {})
        p = subprocess.run([procs.program("bxc")] + [str(a) for a in args], capture_output=True, timeout=timeout, env=e, cwd=cwd, input=stdin or b"")
        r = Result(p)
        if check:
            assert r.rc == 0, "bxc %s: exit %d\n%s\ncoordinator:\n%s" % (" ".join(map(str, args)), r.rc, r.text, procs.tail(self.path("coordinator.log"), 10))
        return r

    def build(self, *args, check=True, **kw):
        return self.bxc("--builder=cluster", "build", "--progress", "plain", *args, check=check, **kw)

    def popen(self, *args):
        return subprocess.Popen([procs.program("bxc"), "--builder=cluster", "build", "--progress", "plain"] + [str(a) for a in args],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.env(), bufsize=0)

    # ---- API

    def token(self, who="client"):
        with open(self.path("coordinator", who + ".token")) as f:
            return f.read().strip()

    def request(self, path, method="GET", body=None, token=None, headers=None):
        h = {"Authorization": "Bearer " + (self.token() if token is None else token)}
        h.update(headers or {})
        return urllib.request.Request("http://%s%s" % (self.http, path), data=body, method=method, headers=h)

    def api(self, path, **kw):
        with urllib.request.urlopen(self.request(path, **kw), timeout=30) as r:
            return json.loads(r.read())

    def builds(self):
        return self.api("/v1/builds")["builds"]

    def events(self, build=None):
        build = build or self.builds()[0]["id"]
        out = []
        with urllib.request.urlopen(self.request("/v1/builds/%s/events" % build), timeout=60) as r:
            for line in r:
                if line.startswith(b"data: "):
                    out.append(json.loads(line[6:]))
        return out

    def workers_of(self, build=None):
        """step name -> worker that ran it"""
        return {e["name"]: e["worker"] for e in self.events(build) if e["type"] == "vertex" and e.get("worker") and e.get("completed_ns")}


def context(folder, files):
    """Writes files (name -> text or bytes) below a folder."""
    for name, data in files.items():
        p = os.path.join(str(folder), name)
        os.makedirs(os.path.dirname(p), exist_ok=True)
        with open(p, "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
    return str(folder)
