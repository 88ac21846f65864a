"""What COPY makes of files, end to end: from a context or a stage, through layers, into the tar of the result."""
import io
import os
import tarfile

import pytest


@pytest.fixture
def made(two, ctx):
    """Builds and returns the tar of the result by name, without the slash in front."""
    def run(dockerfile, prepare=None, **files):
        folder = ctx(dockerfile, **files)
        if prepare:
            prepare(folder)
        r = two.build("-o", "type=tar,dest=-", folder)
        with tarfile.open(fileobj=io.BytesIO(r.raw)) as t:
            return {m.name.strip("/"): Entry(t, m) for m in t if m.name.strip("./")}
    return run


@pytest.fixture
def refused(two, ctx):
    def run(dockerfile, *texts, **files):
        two.build("-o", "type=cacheonly", ctx(dockerfile, **files), check=False).fails(1, *texts)
    return run


class Entry:
    def __init__(self, t, m):
        self.m = m
        self.text = t.extractfile(m).read().decode(errors="replace") if m.isfile() else None

    def __repr__(self):
        return repr(self.about)

    @property
    def about(self):
        return "%s %o %d:%d" % ({tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p", tarfile.CHRTYPE: "c",
                                 tarfile.BLKTYPE: "b"}.get(self.m.type, "f"), self.m.mode, self.m.uid, self.m.gid)


def texts(entries):
    return {n: e.text for n, e in entries.items() if e.text is not None}


def test_folders_stand_for_their_contents(made):
    """10.1.1 Folder as a source, 10.1.2 Shape of the destination"""
    got = made("FROM scratch\nCOPY d /one\nCOPY d/ /two/\nCOPY d/. /three\nCOPY d e /merged\nCOPY e d /other\nCOPY f /name\nCOPY f /folder/\nCOPY f /one\nCOPY f /dot/.\n"
               "COPY f g /last\nWORKDIR /w\nCOPY [\"f\", \"\"]\n", **{"d/f": "df", "d/sub/x": "x", "e/f": "ef", "e/own": "own", "f": "f", "g": "g"})
    assert texts(got) == {
        # f goes into the folder that is there; two sources for one name: the later one stays.
        "one/f": "f", "one/sub/x": "x", "two/f": "df", "two/sub/x": "x", "three/f": "df", "three/sub/x": "x",
        "merged/f": "ef", "merged/own": "own", "merged/sub/x": "x", "other/f": "df", "other/own": "own", "other/sub/x": "x",
        "name": "f", "folder/f": "f", "dot/f": "f", "last": "g", "w/f": "f"}


def test_attributes_of_folders(made, reg):
    """10.1.3 Top folder of a copy, 10.1.4 Folders below it, 10.1.5 Implied parents, 10.1.16 Times"""
    got = made("FROM {b} AS src\nRUN mkdir -p /s/in/deep && echo f > /s/in/f && chmod 2750 /s/in && chmod 711 /s && chown 3:4 /s /s/in /s/in/f && chmod 4711 /s/in/f"
               " && touch -d @1000 /s/in/f && touch -d @2000 /s/in && touch -d @3000 /s\n"
               "FROM {b} AS dst\nRUN mkdir -p /there/in && chmod 700 /there /there/in && chown 8:9 /there /there/in\n"
               "COPY --from=src /s /there\nCOPY --from=src /s /new\nCOPY --from=src --chown=5:6 --chmod=750 /s /chosen\nCOPY --from=src --chown=5:6 /s/in/f /a/b/f\n"
               "FROM scratch\nCOPY --from=dst /there /there\nCOPY --from=dst /new /new\nCOPY --from=dst /chosen /chosen\nCOPY --from=dst / /all\n".format(b=reg.ref("base:latest")))
    assert {n: got["all/" + n].about for n in ("there", "there/in", "new", "new/in", "new/in/f", "chosen", "chosen/in", "chosen/in/f", "a", "a/b", "a/b/f")} == {
        "there": "d 700 8:9", "there/in": "d 2750 3:4", "new": "d 755 0:0", "new/in": "d 2750 3:4", "new/in/f": "f 4711 3:4",
        "chosen": "d 750 5:6", "chosen/in": "d 750 5:6", "chosen/in/f": "f 750 5:6", "a": "d 755 5:6", "a/b": "d 755 5:6", "a/b/f": "f 4711 5:6"}
    # A top folder has the time of its source, whether it was there or not.
    assert [got["all/" + n].m.mtime for n in ("there", "new", "new/in", "new/in/f", "a/b/f")] == [3000, 3000, 2000, 1000, 1000]
    # Copied on, the top folder is a new one.
    assert got["new"].about == "d 755 0:0" and got["there"].about == "d 755 0:0"


def test_types_that_clash(made, refused, reg):
    """10.1.6 Clash of types"""
    base = "FROM %s\nRUN mkdir /dir && echo old > /file && ln /file /peer && ln -s /file /link && ln -s /dir /todir\n" % reg.ref("base:latest")
    refused(base + "COPY a /\n", "cannot replace to directory", "Dockerfile:3", **{"a/dir": "now a file"})
    refused(base + "COPY b /\n", "cannot copy to non-directory", "Dockerfile:3", **{"b/file/x": "now a folder"})
    refused(base + "COPY c /\n", "cannot copy to non-directory", "Dockerfile:3", **{"c/todir/x": "over a link to a folder"})
    got = made(base + "COPY d /\nRUN cat /peer > /seen\n", **{"d/file": "new", "d/link": "plain"})
    # Entries are replaced, not written through: the other name of the file keeps what it had.
    assert (got["file"].text, got["peer"].text, got["seen"].text) == ("new", "old\n", "old\n")
    assert got["link"].about == "f 644 0:0" and got["link"].text == "plain"


def test_links_in_sources_and_destinations(made, reg):
    """10.1.7 Links in the source, 10.1.8 Links in the destination"""
    def links(folder):
        os.symlink("d", os.path.join(folder, "to-d"))
        os.symlink("/d/f", os.path.join(folder, "to-f"))
        os.symlink("../../../../d/f", os.path.join(folder, "up"))
        os.symlink("nowhere", os.path.join(folder, "d", "dangling"))
        os.symlink("f", os.path.join(folder, "d", "beside"))
    got = made("FROM %s AS b\nRUN mkdir /real && ln -s /real /alias && ln -s ../../../real/target /real/name && echo old > /real/target\n"
               "COPY to-d /whole\nCOPY to-f up /named/\nCOPY t*-f /matched/\nCOPY d/f /alias/\nCOPY d/f /real/name\nCOPY d/f /alias/made/f\nFROM scratch\nCOPY --from=b /whole /whole\n"
               "COPY --from=b /named /named\nCOPY --from=b /matched /matched\nCOPY --from=b /real /real\nCOPY --from=b /alias /alias\n" % reg.ref("base:latest"), links, **{"d/f": "f"})
    assert texts(got) == {"whole/f": "f", "named/to-f": "f", "named/up": "f", "matched/to-f": "f", "real/f": "f", "real/target": "f", "real/made/f": "f",
                          "alias/f": "f", "alias/target": "f", "alias/made/f": "f"}
    assert {n: e.m.linkname for n, e in got.items() if e.m.issym()} == {
        "whole/dangling": "nowhere", "whole/beside": "f", "real/name": "../../../real/target", "alias/name": "../../../real/target"}


def test_patterns_and_paths_above_the_root(made, refused):
    """10.1.9 Wildcards, 10.1.10 Sources above the root"""
    files = {"a1.txt": "1", "a2.txt": "2", "b.txt": "b", ".dot": "dot", "s/a3.txt": "3", "s/t/deep.txt": "deep", "x[1]": "bracket", "q?": "question"}
    got = made("FROM scratch\nCOPY a*.txt /star/\nCOPY ?.txt /one/\nCOPY [ab][12b]* /class/\nCOPY */a?.txt /below/\nCOPY s* /folder/\nCOPY .d* /dot/\nCOPY x[[]1] /escaped/\n"
               "COPY none* /nothing/\nCOPY ../../b.txt /up/\nCOPY /b.txt /abs/\nCOPY s/../b.txt /clean/\n", **files)
    assert texts(got) == {"star/a1.txt": "1", "star/a2.txt": "2", "one/b.txt": "b", "class/a1.txt": "1", "class/a2.txt": "2", "below/a3.txt": "3",
                          "folder/a3.txt": "3", "folder/t/deep.txt": "deep", "dot/.dot": "dot", "escaped/x[1]": "bracket", "up/b.txt": "b", "abs/b.txt": "b", "clean/b.txt": "b"}
    refused("FROM scratch\nCOPY a9.txt /\n", '"/a9.txt": not found', "Dockerfile:2", **files)


def test_modes(made, reg):
    """10.1.13 Modes"""
    def prepare(folder):
        os.chmod(os.path.join(folder, "d", "run"), 0o755)
        os.symlink("f", os.path.join(folder, "d", "link"))
    got = made("FROM scratch\nCOPY --chmod=4711 d /octal\nCOPY --chmod=u=rwX,go=rX d /symbolic\nCOPY --chmod=g+w,o-r d/f /kept\nCOPY --chmod=1777 d/f /sticky/f\nCOPY --chmod=u+s d/f /plain/f\n",
               prepare, **{"d/f": "f", "d/run": "run", "d/sub/x": "x"})
    assert {n: e.about for n, e in got.items()} == {
        "octal": "d 4711 0:0", "octal/f": "f 4711 0:0", "octal/link": "l 777 0:0", "octal/run": "f 4711 0:0", "octal/sub": "d 4711 0:0", "octal/sub/x": "f 4711 0:0",
        "symbolic": "d 755 0:0", "symbolic/f": "f 644 0:0", "symbolic/link": "l 777 0:0", "symbolic/run": "f 755 0:0", "symbolic/sub": "d 755 0:0",
        "symbolic/sub/x": "f 644 0:0", "kept": "f 660 0:0", "sticky": "d 1777 0:0", "sticky/f": "f 1777 0:0",
        # A symbolic mode is of the file alone: folders on the way are plain.
        "plain": "d 755 0:0", "plain/f": "f 4644 0:0"}


def test_hard_links_attributes_and_special_files(made, reg):
    """10.1.14 Hard links, 10.1.15 Attributes and special files"""
    capability = bytes.fromhex("0100000200040000000000000000000000000000")

    def prepare(folder):
        os.link(os.path.join(folder, "d", "one"), os.path.join(folder, "d", "two"))
        os.setxattr(os.path.join(folder, "d", "able"), "security.capability", capability)
        with open(os.path.join(folder, "d", "sparse"), "wb") as f:
            f.truncate(1 << 20)
        os.mkfifo(os.path.join(folder, "d", "fifo"))
    got = made("FROM %s AS b\nRUN mkdir /s && mknod /s/null c 1 3 && mknod /s/pipe p && mknod /s/loop b 7 0 && echo x > /s/a && ln /s/a /s/b\nFROM scratch\nCOPY d /context\nCOPY d/one d/two /parts/\n"
               "COPY --from=b /s /stage\n" % reg.ref("base:latest"), prepare, **{"d/one": "1", "d/able": "able", "d/sparse": ""})
    links = {n: e.m.linkname.strip("/") for n, e in got.items() if e.m.islnk()}
    assert links == {"context/two": "context/one", "stage/b": "stage/a"}
    # Of two sources each file is its own.
    assert texts(got)["parts/one"] == texts(got)["parts/two"] == "1"
    assert got["context/able"].m.pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == capability
    assert got["context/sparse"].m.size == 1 << 20 and got["context/sparse"].text == "\0" * (1 << 20)
    assert got["context/fifo"].about[0] == "p" and got["stage/pipe"].about[0] == "p"
    assert [(got[n].about[0], got[n].m.devmajor, got[n].m.devminor) for n in ("stage/null", "stage/loop")] == [("c", 1, 3), ("b", 7, 0)]


def test_times_and_names_of_all_kinds(made):
    """10.1.16 Times"""
    names = ["plain", "with space", "ümläut", "line\nbreak", "-dash", "#hash", "x" * 255]

    def prepare(folder):
        for i, n in enumerate(names):
            p = os.path.join(folder, "d", n)
            with open(p, "w") as f:
                f.write(n)
            os.utime(p, ns=(5, (1000 + i) * 10**9 + 500_000_000))
        with open(os.path.join(os.fsencode(folder), b"d", b"not\xffutf8"), "wb") as f:
            f.write(b"bytes")
    got = made("FROM scratch\nCOPY d /d\n", prepare, **{"d/.keep": ""})
    assert {n: (got["d/" + n].text, int(got["d/" + n].m.mtime)) for n in names} == {n: (n, 1000 + i) for i, n in enumerate(names)}
    assert got["d/not\udcffutf8"].text == "bytes"
