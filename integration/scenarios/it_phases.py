"""A worker is killed in each phase of a step that needs layers of both workers: the build succeeds, with the right result."""
import hashlib
import os
import signal
import threading

import pytest

from harness import procs
from harness.cluster import context

MB = 1 << 20
LAYER = 24 * MB


def names(*path):
    try:
        return os.listdir(os.path.join(*path))
    except FileNotFoundError:
        return []


def large(folder):
    """A blob that is being written, and is no small part of an image."""
    for n in names(folder, "content", "tmp"):
        try:
            if os.stat(os.path.join(folder, "content", "tmp", n)).st_size > 4 * MB:
                return True
        except FileNotFoundError:
            pass
    return False


class Watch:
    """What may be seen of the workers from outside, asked again and again: the name of who is to die, or None."""

    def __init__(self, c):
        self.c = c
        self.publisher = None
        self.ran = {}

    def in_publish(self, w):
        return large(self.c.path(w))

    def in_fetch(self, w):
        """The first to write a large blob makes it for the other, which fetches it."""
        if large(self.c.path(w)):
            self.publisher = self.publisher or w
        return self.publisher and self.publisher != w and large(self.c.path(w))

    def containers(self, w):
        return names(self.c.path(w), "run")

    def before_exec(self, w):
        return any(not names(self.c.path(w), "run", n, "state") for n in self.containers(w))

    def in_exec(self, w):
        return any(names(self.c.path(w), "run", n, "state") for n in self.containers(w))

    def after_exit(self, w):
        for n in self.containers(w):
            if names(self.c.path(w), "run", n, "state"):
                self.ran[w] = n
            elif self.ran.get(w) == n:
                return True
        return w in self.ran and self.ran[w] not in self.containers(w)


@pytest.mark.parametrize("phase", ["in_publish", "in_fetch", "before_exec", "in_exec", "after_exit"])
def test_a_worker_killed_in_any_phase_of_a_step(fresh, reg, tmp_path, phase):
    c = fresh(workers=2, grace="1s")
    u = os.urandom(6).hex()
    side = "FROM {0} AS {1}\nRUN echo {2}; dd if=/dev/urandom of=/{1} bs=1M count=%d 2>/dev/null; sleep 1\n" % (LAYER // MB)
    text = side.format(reg.ref("base:latest"), "a", u) + side.format(reg.ref("base:latest"), "b", u) + \
        "FROM a\nCOPY --from=b /b /b\nRUN cat /a /b | sha256sum > /sum; sleep 0.3\nFROM scratch\nCOPY --from=2 /a /b /sum /\n"
    # Stages a and b alone, so that the phases are those of what follows.
    d = context(tmp_path / "ctx", {"Dockerfile": text})
    for p in [c.popen("--target", stage, "-o", "type=cacheonly", d) for stage in ("a", "b")]:
        said = p.communicate(timeout=60)[0]
        assert p.returncode == 0, said
    watch, hit, over = Watch(c), [], threading.Event()

    def look():
        while not hit and not over.is_set():
            for w in list(c.workers):
                if getattr(watch, phase)(w):
                    c.workers[w].p.send_signal(signal.SIGKILL)
                    hit.append(w)
                    return
    t = threading.Thread(target=look)
    t.start()
    try:
        out = tmp_path / "o"
        r = c.build("-o", "type=local,dest=%s" % out, d, check=False)
    finally:
        over.set()
        t.join()
    assert r.rc == 0, r.text
    assert hit, "the phase was not seen:\n" + r.text
    h = hashlib.sha256()
    for n in ("a", "b"):
        data = (out / n).read_bytes()
        assert len(data) == LAYER
        h.update(data)
    assert (out / "sum").read_text().split()[0] == h.hexdigest()
    # The one that is left knows of nothing that runs, and a new one under the old name begins clean.
    procs.wait_for("no slot is taken", lambda: not any(w["running"] for w in c.api("/v1/workers")["workers"]))
    c.workers[hit[0]].stop()
    # Whatever it was about, what it has kept is whole.
    assert procs.fsck("bxc-worker", c.states[hit[0]])[0] == 0
    c.add_worker(hit[0])
    again = c.build("-o", "type=local,dest=%s" % (tmp_path / "again"), d)
    assert (tmp_path / "again/sum").read_text() == (out / "sum").read_text(), again.text
