"""A real docker-registry on a port of its own."""
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request

from . import procs

HERE = os.path.dirname(os.path.abspath(__file__))
ACCEPT = ("application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
          "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json")


def free_port():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    return port


class Registry:
    def __init__(self, folder, host="127.0.0.1", netns=None):
        self.folder, self.host, self.netns = str(folder), host, netns
        self.port = self.pick_port()
        self.addr = "%s:%d" % (host, self.port)
        self.p = None

    def pick_port(self):
        return free_port()

    def start(self):
        os.makedirs(self.folder, exist_ok=True)
        conf = os.path.join(self.folder, "config.yml")
        with open(conf, "w") as f:
            f.write("version: 0.1\nlog: {level: warn}\nstorage:\n  filesystem: {rootdirectory: %s/data}\n  delete: {enabled: true}\n"
                    "http: {addr: %s}\n" % (self.folder, self.addr))
        argv = procs.inside(self.netns, ["docker-registry", "serve", conf])
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        procs.wait_for("registry answers", lambda: self.answers())
        return self

    def answers(self):
        try:
            with socket.create_connection((self.host, self.port), 1):
                return True
        except OSError:
            return False

    def stop(self):
        if self.p:
            self.p.kill()
            self.p.wait()
            self.p = None

    def make_base(self, name):
        script = os.path.join(HERE, "..", "examples", "make-base")
        subprocess.run([script, self.ref(name)], check=True, capture_output=True)

    def ref(self, name):
        return "%s/%s" % (self.addr, name)

    def get(self, repo, what, ref):
        req = urllib.request.Request("http://%s/v2/%s/%s/%s" % (self.addr, repo, what, ref), headers={"Accept": ACCEPT})
        with urllib.request.urlopen(req) as r:
            return r.read()

    def has(self, repo, ref):
        try:
            self.get(repo, "manifests", ref)
            return True
        except urllib.error.HTTPError:
            return False

    def document(self, repo, ref="latest"):
        """What the name stands for: an index or a manifest."""
        return json.loads(self.get(repo, "manifests", ref))

    def manifest(self, repo, ref="latest"):
        """The manifest of an image of one platform, whether or not an index tells more of it."""
        top = self.document(repo, ref)
        for d in top.get("manifests", []):
            if d["platform"]["os"] != "unknown":
                return json.loads(self.get(repo, "manifests", d["digest"]))
        return top

    def config(self, repo, ref="latest"):
        return json.loads(self.get(repo, "blobs", self.manifest(repo, ref)["config"]["digest"]))
