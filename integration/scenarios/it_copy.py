"""COPY and ADD as users write them, end to end. Rules are those of the Dockerfile reference."""
import io
import json
import os
import stat
import subprocess
import tarfile

from harness.cluster import context


def layers_of(reg, name):
    return [d["digest"] for d in reg.manifest(name, "v1")["layers"]]


def names_in(reg, name, digest):
    with tarfile.open(fileobj=io.BytesIO(reg.get(name, "blobs", digest)), mode="r:gz") as t:
        return t.getnames()


# ---- --link

def test_linked_layer_is_reused_over_another_base(two, reg, ctx):
    base = "FROM %s\nRUN mkdir -p /app/data && echo %%d > /app/data/base\n" % reg.ref("base:latest")
    last = "COPY --link f /app/data/f\nCOPY --link --chown=7:8 d /app/d\n"
    files = {"f": "file", "d/g": "deep"}
    for i, name in enumerate(("link1", "link2")):
        two.build("-t", reg.ref(name + ":v1"), "--push", ctx(base % i + last, **files))
    one, other = layers_of(reg, "link1"), layers_of(reg, "link2")
    assert one[-2:] == other[-2:] and one[-3] != other[-3]
    # Nothing of the base is in it, not even as a parent folder with the base's attributes.
    assert sorted(names_in(reg, "link1", one[-2])) == ["app", "app/data", "app/data/f"]
    history = [(h["created_by"], h.get("empty_layer", False)) for h in reg.config("link2", "v1")["history"]]
    assert history[-2:] == [("COPY f /app/data/f # buildkit", False), ("COPY --chown=7:8 d /app/d # buildkit", False)]


def test_linked_files_lie_over_what_is_there(two, reg, ctx, tmp_path):
    c = ctx("FROM %s AS a\nRUN mkdir /real /dir && ln -s /real /link && echo old > /real/old && echo old > /f && echo x > /dir/x\n"
            "COPY --link new /link/new\nCOPY --link new /f\nCOPY --link d/ /dir/\nRUN cat /f /link/new /dir/x /dir/y /real/old > /seen\n"
            "FROM scratch\nCOPY --from=a /seen /link /\nCOPY --from=a /real /real\nCOPY --link --from=a /dir /linked\n" % reg.ref("base:latest"),
            **{"new": "new\n", "d/y": "y\n"})
    out = tmp_path / "o"
    two.build("-o", "type=local,dest=%s" % out, c)
    # The link of the base is not followed: a folder takes its place.
    assert (out / "seen").read_text() == "new\nnew\nx\ny\nold\n"
    assert os.listdir(out / "real") == ["old"]
    assert (out / "new").read_text() == "new\n"
    assert sorted(os.listdir(out / "linked")) == ["x", "y"]


def test_a_merge_runs_on_no_worker_and_the_same_layer_may_come_twice(two, reg, ctx, tmp_path):
    c = ctx("FROM %s\nCOPY --link f /f\nRUN echo changed > /f\nCOPY --link f /f\nRUN cat /f > /seen\n" % reg.ref("base:latest"), f="first\n")
    two.build("-t", reg.ref("twice:v1"), "--push", "-o", "type=local,dest=%s" % (tmp_path / "o"), c)
    assert (tmp_path / "o" / "seen").read_text() == "first\n"
    assert not [n for n, w in two.workers_of().items() if "LINK" in n and w]
    layers = layers_of(reg, "twice")
    assert layers[-4] == layers[-2]
    assert sum(not h.get("empty_layer") for h in reg.config("twice", "v1")["history"]) == len(layers)


def test_a_linked_image_needs_no_base_on_the_worker(fresh, reg, ctx):
    cluster = fresh(workers=1)
    cluster.build("-t", reg.ref("nobase:v1"), "--push", ctx("FROM %s\nCOPY --link f /f\n" % reg.ref("base:latest"), f="x"))
    held = os.listdir(os.path.join(cluster.states["worker-1"], "snapshots", "layers"))
    assert len(held) == 1, held


# ---- ADD of archives

def archive(mode):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode=mode) as t:
        d = tarfile.TarInfo("d")
        d.type, d.mode, d.uid, d.gid, d.mtime = tarfile.DIRTYPE, 0o751, 5, 6, 1000
        t.addfile(d)
        f = tarfile.TarInfo("d/f")
        f.size, f.mode, f.uid, f.gid, f.mtime = 5, 0o4640, 5, 6, 2000
        t.addfile(f, io.BytesIO(b"hello"))
    return b.getvalue()


def test_archives_of_a_context_and_of_a_stage_are_unpacked(two, reg, ctx, tmp_path):
    c = ctx("FROM scratch AS a\nCOPY t.gz /stage.tar\n"
            "FROM %s\nADD t.gz t.bz2 /many/\nADD --chown=12:34 t.xz /owned\nADD --unpack=false t.tar /plain/\nADD no.tar /plain/\n"
            "ADD --link t.tar /many/linked\nRUN stat -c '%%n %%a %%u:%%g %%Y' /many/d /many/d/f /owned/d/f /many/linked/d/f > /seen\n" % reg.ref("base:latest"),
            **{"t.gz": archive("w:gz"), "t.bz2": archive("w:bz2"), "t.xz": archive("w:xz"), "t.tar": archive("w"), "no.tar": "text"})
    out = tmp_path / "o"
    two.build("-o", "type=local,dest=%s" % out, c)
    assert (out / "seen").read_text().splitlines() == [
        "/many/d 751 5:6 1000", "/many/d/f 4640 5:6 2000", "/owned/d/f 4640 12:34 2000", "/many/linked/d/f 4640 5:6 2000"]
    assert sorted(os.listdir(out / "plain")) == ["no.tar", "t.tar"]
    assert (out / "plain" / "t.tar").read_bytes() == archive("w")
