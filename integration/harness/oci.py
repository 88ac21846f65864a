"""Images made by hand: layers of any content, pushed over HTTP. Nothing here refuses what a hostile registry would send."""
import gzip
import hashlib
import io
import json
import os
import tarfile
import urllib.request

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(entries):
    """entries: (name, bytes) for a file, or (name, type, link target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for e in entries:
            i = tarfile.TarInfo()
            i.name, i.mode = e[0], 0o755
            if len(e) == 2:
                i.size = len(e[1])
                t.addfile(i, io.BytesIO(e[1]))
            else:
                i.type, i.linkname = e[1], e[2]
                t.addfile(i)
    return out.getvalue()


def _put(reg, repo, data):
    base = "http://%s" % reg.addr
    with urllib.request.urlopen(urllib.request.Request("%s/v2/%s/blobs/uploads/" % (base, repo), data=b"", method="POST")) as r:
        where = r.headers["Location"]
    where = where if where.startswith("http") else base + where
    where += ("&" if "?" in where else "?") + "digest=" + digest(data)
    urllib.request.urlopen(urllib.request.Request(where, data=data, method="PUT", headers={"Content-Type": "application/octet-stream"})).close()


def descriptor(kind, data):
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def push(reg, repo, layers, diff_ids=None, gzipped=False, history=None):
    """Pushes an image of these uncompressed layers, gzipped if asked; returns its manifest."""
    blobs = [gzip.compress(x, mtime=0) for x in layers] if gzipped else layers
    config = json.dumps({"architecture": architecture(), "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest(x) for x in layers]},
                         **({"history": history} if history is not None else {})}).encode()
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config),
                "layers": [descriptor(LAYER + "+gzip" * gzipped, x) for x in blobs]}
    for data in [config] + blobs:
        _put(reg, repo, data)
    req = urllib.request.Request("http://%s/v2/%s/manifests/latest" % (reg.addr, repo), data=json.dumps(manifest).encode(), method="PUT",
                                 headers={"Content-Type": MANIFEST})
    urllib.request.urlopen(req).close()
    return manifest


def stored(reg, dig):
    """The file in which the registry keeps a blob."""
    hexa = dig.split(":")[1]
    return os.path.join(reg.folder, "data/docker/registry/v2/blobs/sha256", hexa[:2], hexa, "data")


def architecture():
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
