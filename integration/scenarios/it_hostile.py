"""Registries that lie, images that reach for the host, disks that are full."""
import os
import subprocess
import tarfile

import pytest

from harness import oci

HARMLESS = oci.tar([("file", b"harmless\n")])


def spoil(reg, digest):
    """Changes one byte of a stored blob; the size stays."""
    path = oci.stored(reg, digest)
    with open(path, "r+b") as f:
        f.seek(-1, os.SEEK_END)
        last = f.read(1)
        f.seek(-1, os.SEEK_END)
        f.write(bytes([last[0] ^ 1]))


@pytest.mark.parametrize("what", ["layer", "config"])
def test_blob_with_another_digest(two, reg, ctx, what):
    m = oci.push(reg, "spoiled-" + what, [oci.tar([("file", os.urandom(9000))])])
    bad = m["layers"][0]["digest"] if what == "layer" else m["config"]["digest"]
    spoil(reg, bad)
    r = two.build("-o", "type=cacheonly", ctx("FROM %s\nCOPY x /\n" % reg.ref("spoiled-" + what), x="x"), check=False)
    r.fails(1, bad, "digest")


def test_compressed_layer_with_another_digest(two, reg, ctx):
    """Even what cannot be decompressed is told by its digest."""
    m = oci.push(reg, "spoiled-gzip", [oci.tar([("file", os.urandom(100))])], gzipped=True)
    layer = m["layers"][0]
    with open(oci.stored(reg, layer["digest"]), "r+b") as f:
        f.seek(2)
        f.write(b"x" * (layer["size"] - 2))
    r = two.build("-o", "type=cacheonly", ctx("FROM %s\nCOPY x /\n" % reg.ref("spoiled-gzip"), x="x"), check=False)
    r.fails(1, "digest", "ERROR: failed to build")


def test_layer_with_another_diff_id(two, reg, ctx):
    oci.push(reg, "other-diff", [oci.tar([("file", os.urandom(100))])], diff_ids=["sha256:" + "1" * 64])
    r = two.build("-o", "type=cacheonly", ctx("FROM %s\nCOPY x /\n" % reg.ref("other-diff"), x="x"), check=False)
    r.fails(1, "diff", "sha256:" + "1" * 64)


def test_truncated_and_garbage_layers(two, reg, ctx):
    for name, data in (("cut", HARMLESS[:700]), ("noise", os.urandom(4096))):
        oci.push(reg, name, [data])
        two.build("-o", "type=cacheonly", ctx("FROM %s\nCOPY x /\n" % reg.ref(name), x="x"), check=False).fails(1, reg.ref(name))


SYM, LNK, CHR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE


def escapes(outside):
    """Layers that try to write at `outside`, a folder of the host."""
    up = "../" * 40
    return {
        "dots": [[(up + outside[1:] + "/dots", b"x")]],
        "dots-within": [[("a/" + up + outside[1:] + "/dots-within", b"x")]],
        "absolute": [[(outside + "/absolute", b"x")]],
        "symlink": [[("link", SYM, outside), ("link/symlink", b"x")]],
        "relative-symlink": [[("d/link", SYM, up + outside[1:]), ("d/link/relative-symlink", b"x")]],
        "symlink-of-a-layer-below": [[("link", SYM, outside)], [("link/below", b"x")]],
        "two-symlinks": [[("a", SYM, up), ("b", SYM, "a" + outside), ("b/two", b"x")]],
        "hard-link": [[("h", LNK, outside + "/victim")], [("h", b"overwritten")]],
        "hard-link-up": [[("h", LNK, up + outside[1:] + "/victim"), ("h", b"overwritten")]],
        "hard-link-by-symlink": [[("l", SYM, outside), ("h", LNK, "l/victim"), ("h", b"overwritten")]],
        "whiteout": [[(up + outside[1:] + "/.wh.victim", b"")]],
        "whiteout-by-symlink": [[("l", SYM, outside), ("l/.wh.victim", b"")]],
        "opaque-by-symlink": [[("l", SYM, outside)], [("l/.wh..wh..opq", b"")]],
        "whiteout-of-dots": [[("a/.wh...", b"")]],
    }


@pytest.mark.parametrize("name", escapes("/x"))
def test_layers_stay_below_their_root(two, reg, tmp_path, ctx, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    oci.push(reg, "escape-" + name, [oci.tar(x) for x in escapes(str(outside))[name]], gzipped=True)
    r = two.build("-o", "type=tar,dest=%s" % (tmp_path / "o.tar"), ctx("FROM %s\nCOPY x /x\n" % reg.ref("escape-" + name), x="x"), check=False)
    assert sorted(os.listdir(outside)) == ["victim"] and (outside / "victim").read_text() == "untouched"
    assert os.stat(outside / "victim").st_nlink == 1
    assert r.rc in (0, 1), r.text
    if r.rc == 1:
        r.fails(1, "ERROR: failed to build: failed to solve:", reg.ref("escape-" + name))
        assert escapes(str(outside))[name][-1][-1][0].lstrip("/") in r.text or "link" in r.text, r.text
    if r.rc == 0:
        with tarfile.open(tmp_path / "o.tar") as t:
            assert not [n for n in t.getnames() if n.startswith("/") or ".." in n.split("/")]
    # The workers go on.
    two.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY x /y\n", x=name))


def test_copy_follows_no_link_out_of_its_root(two, reg, tmp_path, ctx):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("of the host")
    oci.push(reg, "links", [oci.tar([("out", SYM, str(outside)), ("up", SYM, "../" * 40 + str(outside)[1:])])])
    r = two.build("-o", "type=cacheonly", ctx("FROM %s\nCOPY x /out/dropped\nCOPY x /up/dropped\n" % reg.ref("links"), x="x"), check=False)
    assert r.rc in (0, 1), r.text
    assert os.listdir(outside) == ["secret"]
    for src in ("/out/secret", "/up/secret"):
        two.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY --from=%s %s /\n" % (reg.ref("links"), src)), check=False).fails(1, "not found")


def test_context_symlinks_do_not_leave_the_context(two, tmp_path, ctx):
    (tmp_path / "secret").write_text("of the client's machine")
    folder = ctx("FROM scratch\nCOPY link/secret /\n")
    os.symlink("..", os.path.join(folder, "link"))
    two.build("-o", "type=cacheonly", folder, check=False).fails(1, "not found")


@pytest.fixture
def small_disk(tmp_path):
    mnt = tmp_path / "small"
    mnt.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "small", str(mnt)], check=True)
    yield mnt
    subprocess.run(["umount", str(mnt)], check=True)


def test_full_disk_of_a_worker(small_disk, fresh, reg, tmp_path, ctx):
    """The step fails with the reason, what it wrote is given back, the worker goes on."""
    c = fresh(workers=0)
    w = c.add_worker("tiny", state=str(small_disk / "worker"))
    try:
        r = c.build("-o", "type=cacheonly", ctx("FROM %s\nRUN dd if=/dev/zero of=/big bs=1M count=64\n" % reg.ref("base:latest")), check=False)
        r.fails(1, "No space left on device", "exit code: 1", "2 | >>> RUN dd")
        r = c.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY big /\n", big=os.urandom(32 << 20)), check=False)
        r.fails(1, "No space left on device", "2 | >>> COPY big /")
        c.build("-o", "type=cacheonly", ctx("FROM %s\nRUN dd if=/dev/zero of=/less bs=1M count=8\n" % reg.ref("base:latest")))
    finally:
        w.stop()


def test_a_worker_whose_disk_is_full_is_avoided(small_disk, fresh, reg, tmp_path, ctx):
    """What it can't hold is made by another one, and the log says why it began twice."""
    c = fresh(workers=0)
    w = c.add_worker("tiny", state=str(small_disk / "worker"))
    c.add_worker("large")
    try:
        # The first to join is the first to be asked.
        r = c.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY big /\n", big=os.urandom(32 << 20)))
        assert "No space left on device" in r.text, r.text
        assert [n for n in c.workers_of().values()] == ["large"]
    finally:
        w.stop()
