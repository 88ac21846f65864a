"""Running builds, followed by their events or by what their client prints."""
import base64
import io
import json
import re
import urllib.request

from . import procs


def started(c, client):
    """The build of a client that was just started."""
    def there():
        assert client.poll() is None, client.communicate()[0].decode()
        return [b["id"] for b in c.builds() if b["status"] == "running"]
    return procs.wait_for("the build is recorded", there)[0]


def until(c, build, condition):
    """Follows a build until an event fulfils the condition."""
    with urllib.request.urlopen(c.request("/v1/builds/%s/events" % build), timeout=60) as r:
        for line in r:
            if line.startswith(b"data: "):
                e = json.loads(line[6:])
                if condition(e):
                    return e
    raise AssertionError("the build ended before it happened")


def says(text):
    return lambda e: e["type"] == "log" and text.encode() in base64.b64decode(e["data"])


def busy(c):
    """Workers that run something."""
    return [w["name"] for w in c.api("/v1/workers")["workers"] if w["running"]]


def read_until(p, pattern):
    """Lines of a running build until one matches; returns what was read. The pipe has no buffer: what comes behind is still in it."""
    assert isinstance(p.stdout, io.RawIOBase)
    seen = ""
    for line in p.stdout:
        seen += line.decode(errors="replace")
        if re.search(pattern, seen):
            return seen
    raise AssertionError("the build ended before it printed /%s/:\n%s" % (pattern, seen))
