"""COPY and ADD as users write them, end to end. Rules are those of the Dockerfile reference."""
import io
import os
import stat
import tarfile

from harness import oci


def layers_of(reg, name):
    return [d["digest"] for d in reg.manifest(name, "v1")["layers"]]


def names_in(reg, name, digest):
    with tarfile.open(fileobj=io.BytesIO(reg.get(name, "blobs", digest)), mode="r:gz") as t:
        return t.getnames()


# ---- --link

def test_linked_layer_is_reused_over_another_base(two, reg, ctx):
    """10.1.18 Linked layers"""
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
    """10.1.17 Archives"""
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


# ---- --parents, --exclude

def tree(folder):
    return sorted(os.path.relpath(os.path.join(d, n), folder) for d, _, names in os.walk(folder) for n in names)


TREE = "mkdir -p a/b/c/d/e a/b2/c/d/e a/b/c2/d/e a/b/c2/d/e2 && touch a/b/c/d/foo a/b/c/d/e/bay a/b2/c/d/e/bar a/b/c2/d/e/baz a/b/c2/d/e2/baz && " \
       "chmod 711 a/b2 && chown 3:4 a/b2"


def test_parents_of_a_stage(two, reg, ctx, tmp_path):
    """10.1.19 Parents"""
    cases = {
        "/t/a/b/./c/d": ["c/d/e/bay", "c/d/foo"],
        "/t/a/b/c/d/.": ["t/a/b/c/d/e/bay", "t/a/b/c/d/foo"],
        "./t/a/b/c/d": ["t/a/b/c/d/e/bay", "t/a/b/c/d/foo"],
        "/t/a/./b/./c": ["b/c/d/e/bay", "b/c/d/foo"],
        "/t/a/./*/c": ["b/c/d/e/bay", "b/c/d/foo", "b2/c/d/e/bar"],
        "/t/a/b*/./c/**/e": ["c/d/e/bar", "c/d/e/bay"],
        "/t/a/b/c*/./d/**/baz /t/a/b*/./c/**/bar": ["c/d/e/bar", "d/e/baz", "d/e2/baz"],
        "/t/nope/*.c": [],
        "--exclude=**/e /t/a/b/./c/d": ["c/d/foo"],
        "--exclude=** --exclude=!b2/**/bar /t/a/./b2": ["b2/c/d/e/bar"],
    }
    stages = "".join("FROM scratch AS s%d\nCOPY --from=base --parents %s /\n" % (i, c) for i, c in enumerate(cases))
    ends = "".join("COPY --from=s%d / /s%d/\n" % (i, i) for i in range(len(cases)))
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"),
              ctx("FROM %s AS base\nWORKDIR /t\nRUN %s\n%sFROM scratch\n%s" % (reg.ref("base:latest"), TREE, stages, ends)))
    assert {c: tree(tmp_path / "o" / ("s%d" % i)) for i, c in enumerate(cases)} == cases
    st = os.stat(tmp_path / "o" / "s4" / "b2")
    assert stat.S_IMODE(st.st_mode) == 0o711


def test_parents_of_a_context_send_what_they_need(two, ctx, tmp_path):
    files = {"x/y/a.c": "a", "x/y/a.o": "o", "x/z/deep/b.c": "b", "other": "o" * 100000, "w/c.c": "c"}
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx("FROM scratch\nCOPY --parents x/**/*.c ./w/c.c /p/\n", **files))
    assert tree(tmp_path / "o") == ["p/w/c.c", "p/x/y/a.c", "p/x/z/deep/b.c"]
    sent = max(int(e["current"]) for e in two.events() if e["type"] == "status" and e["id"] == "transferring context:")
    assert sent < 10000
    # A change beside what is copied is no change.
    (tmp_path / "ctx" / "x" / "y" / "a.o").write_text("new")
    again = two.build("-o", "type=local,dest=%s" % (tmp_path / "o2"), str(tmp_path / "ctx"))
    assert any("COPY --parents" in n for n in again.cached()), again.text
    r = two.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY --parents x/missing /p/\n"), check=False)
    r.fails(1, '"/x/missing": not found', "Dockerfile:2")


def test_exclude_by_all_kinds_of_patterns(two, ctx, tmp_path):
    files = {"d/a.txt": "1", "d/b.md": "2", "d/sub/a.txt": "3", "d/sub/keep.txt": "4", "d/[x]": "5", "d/sub/more/z": "6", "top.txt": "7", "top.md": "8"}
    cases = {
        "--exclude=*.txt d": ["[x]", "b.md", "sub/a.txt", "sub/keep.txt", "sub/more/z"],
        "--exclude=**/*.txt d": ["[x]", "b.md", "sub/more/z"],
        "--exclude=**/*.txt --exclude=!**/keep.txt d": ["[x]", "b.md", "sub/keep.txt", "sub/more/z"],
        "--exclude=sub d": ["[x]", "a.txt", "b.md"],
        "--exclude=sub --exclude=!sub/more d": ["[x]", "a.txt", "b.md", "sub/more/z"],
        "--exclude=/sub/ --exclude=[[]x] d": ["a.txt", "b.md"],
        "--exclude=[ab].* d": ["[x]", "sub/a.txt", "sub/keep.txt", "sub/more/z"],
        "--exclude=* d": [],
        "--exclude=*.txt top*": ["top.md"],
    }
    stages = "".join("FROM scratch AS s%d\nCOPY %s /o/\n" % (i, c) for i, c in enumerate(cases))
    ends = "".join("COPY --from=s%d /o /s%d/\n" % (i, i) for i in range(len(cases)))
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx(stages + "FROM scratch\n" + ends, **files))
    assert {c: tree(tmp_path / "o" / ("s%d" % i)) for i, c in enumerate(cases)} == cases


def test_a_slash_within_brackets_ends_no_component(two, ctx, tmp_path):
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx("FROM scratch\nCOPY [x/a]b/f[/1] /d/\n", **{"ab/f1": "1", "ab/f2": "2", "xb/f1": "x"}))
    assert tree(tmp_path / "o") == ["d/f1"]
    assert (tmp_path / "o" / "d" / "f1").read_text() == "x"


# ---- owners, ignored files, layers and history

def test_files_belong_to_root_or_keep_the_owner_of_their_stage(two, reg, ctx, tmp_path):
    """10.1.11 Owner by default, 10.1.12 Owners by name"""
    c = ctx("FROM {b} AS a\nRUN touch /f /g && chown 5:6 /f && chmod 4751 /g\n"
            "FROM {b}\nRUN echo 'app:x:41:42::/:/bin/sh' >> /etc/passwd && echo 'staff:x:50:' >> /etc/group\nUSER 9\n"
            "COPY f /from/context\nCOPY --from=a /f /g /from/\nCOPY --chown=app f /by/name\nCOPY --chown=app:staff f /by/both\nCOPY --chown=55 f /by/id\n"
            "COPY --chown=nobody-here f /by/unknown\nCOPY --chown=root:staff <<doc /by/\nx\ndoc\n"
            "USER 0\nRUN stat -c '%n %u:%g %a' /from/context /from/f /from/g /by /by/name /by/both /by/id /by/unknown /by/doc > /tmp/seen\n".format(b=reg.ref("base:latest")), f="x")
    os.chown(os.path.join(c, "f"), 1234, 1234)
    os.chmod(os.path.join(c, "f"), 0o640)
    out = tmp_path / "o"
    two.build("-o", "type=local,dest=%s" % out, c)
    assert (out / "tmp" / "seen").read_text().splitlines() == [
        "/from/context 0:0 640", "/from/f 5:6 644", "/from/g 0:0 4751", "/by 41:42 755", "/by/name 41:42 640", "/by/both 41:50 640", "/by/id 55:55 640",
        "/by/unknown 0:0 640", "/by/doc 0:50 644"]


def test_ignored_files_are_not_found(two, ctx):
    """10.1.20 Ignore files"""
    r = two.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY a/b /\n", **{"a/b": "x", ".dockerignore": "a\n"}), check=False)
    r.fails(1, '"/a/b": not found', "Dockerfile:2")


def test_steps_that_change_nothing_are_layers_too(two, reg, ctx):
    """10.2.25 Steps that change nothing, 10.2.26 Texts of the history, 10.2.27 Times of the history"""
    c = ctx("FROM %s\nENV A=1\nRUN true\nCOPY none* /x/\nCOPY f /f\nCOPY f /f\nWORKDIR /\nWORKDIR /w\nWORKDIR /w\nLABEL l=1\nCMD [\"x\", \"y\"]\n"
            "COPY --link --chmod=600 <<one <<two f /d/\n1\none\n2\ntwo\nONBUILD RUN true\nEXPOSE 80 70/UDP\nVOLUME /a /b\nSHELL [\"/bin/sh\", \"-c\"]\n" % reg.ref("base:latest"), f="x")
    two.build("-t", reg.ref("layers:v1"), "--push", c)
    base = len(reg.manifest("base", "latest")["layers"])
    cfg = reg.config("layers", "v1")
    history = cfg["history"][-14:]
    assert [(h["created_by"], h.get("empty_layer", False)) for h in history] == [
        ("ENV A=1", True), ("RUN /bin/sh -c true # buildkit", False), ("COPY none* /x/ # buildkit", False), ("COPY f /f # buildkit", False),
        ("COPY f /f # buildkit", False), ("WORKDIR /", True), ("WORKDIR /w", False), ("WORKDIR /w", False), ("LABEL l=1", True), ('CMD ["x" "y"]', True),
        ("COPY --chmod=600 f <<one <<two /d/ # buildkit", False), ("EXPOSE [70/udp 80/tcp]", True), ("VOLUME [/a /b]", True), ("SHELL [/bin/sh -c]", True)]
    made = [h for h in history if not h.get("empty_layer")]
    assert len(reg.manifest("layers", "v1")["layers"]) == base + 7 == base + len(made)
    assert all(h["comment"] == "buildkit.dockerfile.v0" for h in history)
    # What makes no layer takes the time of the layer before it, or of the first one; the image that of the last entry.
    times = [h["created"] for h in history]
    assert times[0] == times[1] and times[8] == times[9] == times[7] and times[13] == times[10] == cfg["created"]


def test_history_and_layers_of_a_base_may_disagree(two, reg, ctx):
    """10.2.28 Layers beyond the history"""
    layers = [oci.tar([("one", b"1")]), oci.tar([("two", b"2")])]
    told = {"few": [{"created_by": "a"}], "many": [{"created_by": n} for n in "abcd"]}
    got = {}
    for name, history in told.items():
        oci.push(reg, "told" + name, layers, history=history)
        two.build("-t", reg.ref("retold%s:v1" % name), "--push", ctx("FROM %s\nCOPY f /f\n" % reg.ref("told%s:latest" % name), f="x"))
        assert len(reg.manifest("retold" + name, "v1")["layers"]) == 3
        got[name] = [(h.get("created_by", ""), h.get("empty_layer", False), h.get("comment", "")) for h in reg.config("retold" + name, "v1")["history"]]
    copy = "COPY f /f # buildkit"
    assert got["few"] == [("a", False, ""), (copy, False, "buildkit.dockerfile.v0"), ("", False, "buildkit.exporter.image.v0")]
    assert got["many"] == [("a", False, ""), ("b", False, ""), ("c", False, ""), ("d", True, ""), (copy, True, "buildkit.dockerfile.v0")]
