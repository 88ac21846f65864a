"""An image in a registry as a container would see it: its tree, its configuration."""
import gzip
import hashlib
import io
import json
import os
import tarfile

KINDS = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link", tarfile.FIFOTYPE: "fifo", tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block"}


def _drop(tree, name):
    for n in [n for n in tree if n == name or n.startswith(name + "/")]:
        del tree[n]


def _apply(tree, data):
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        new = set()
        for m in t:
            name = os.path.normpath("/" + m.name)
            folder, base = os.path.split(name)
            if base == ".wh..wh..opq":
                for n in [n for n in tree if n.startswith(folder.rstrip("/") + "/") and n not in new]:
                    del tree[n]
            elif base.startswith(".wh."):
                _drop(tree, os.path.join(folder, base[4:]))
            else:
                _put(tree, t, m, name)
                new.add(name)


def _put(tree, t, m, name):
    if m.islnk():
        tree[name] = tree[os.path.normpath("/" + m.linkname)]
        return
    if not m.isdir():
        _drop(tree, name)
    e = {"kind": KINDS.get(m.type, "file"), "mode": "%o" % (m.mode & 0o7777), "owner": "%d:%d" % (m.uid, m.gid), "mtime": int(m.mtime)}
    if m.isfile():
        e["content"] = hashlib.sha256(t.extractfile(m).read()).hexdigest()[:16]
    if m.issym():
        e["target"] = m.linkname
        e["mode"] = "777"
    for k, v in m.pax_headers.items():
        if k.startswith("SCHILY.xattr."):
            e[k[len("SCHILY.xattr."):]] = v
    tree[name] = e


def tree(reg, repo, ref):
    """path -> what lies there"""
    out = {}
    for d in reg.manifest(repo, ref)["layers"]:
        data = reg.get(repo, "blobs", d["digest"])
        _apply(out, gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    return out


def config(reg, repo, ref):
    return json.loads(reg.get(repo, "blobs", reg.manifest(repo, ref)["config"]["digest"]))
