"""Sources that lie elsewhere: files of web servers and git repositories."""
import contextlib
import glob
import hashlib
import io
import json
import os
import socket
import stat
import subprocess
import tarfile

import pytest

from harness import procs, registry
from harness import web as webs
from harness.cluster import context

WHEN = "Fri, 13 Feb 2009 23:31:30 GMT"


@pytest.fixture
def web(tmp_path):
    root = tmp_path / "git"
    root.mkdir()
    w = webs.Web(root).start()
    try:
        yield w
    finally:
        w.stop()


@pytest.fixture
def repo(web):
    r = webs.Repo(web.git_root, "r")
    r.url = web.url + "/r.git"
    r.commit({"README": "one", "bin/exe*": "#!/bin/sh\n", "sub/f": "f"})
    r.run("tag", "v1")
    r.run("tag", "-a", "-m", "t", "signed")
    r.commit({"README": "two"})
    r.run("checkout", "-q", "-b", "dev")
    r.commit({"sub/g": "g"})
    r.run("checkout", "-q", "main")
    return r


@pytest.fixture
def build(two, ctx, tmp_path):
    """Builds a Dockerfile and gives the folder of the result."""
    n = [0]

    def run(dockerfile, *args, **kw):
        n[0] += 1
        out = tmp_path / ("out%d" % n[0])
        run.result = two.build("-o", "type=local,dest=%s" % out, *args, ctx("FROM scratch\n" + dockerfile), **kw)
        return out
    return run


def tree(folder):
    return sorted(os.path.relpath(os.path.join(d, n), folder) for d, _, names in os.walk(folder) for n in names)


# ---- URLs


def test_a_url_becomes_a_file_of_root(two, ctx, web, tmp_path):
    url = web.put("/d/file.txt", "from the web", Last_Modified=WHEN)
    odd = web.put("/", "no name")
    two.build("-o", "type=tar,dest=%s" % (tmp_path / "t"), ctx("FROM scratch\nADD %s /x/\nADD %s?q /y/\nADD --chown=3:4 --chmod=644 %s /named\n" % (url, odd, url)))
    with tarfile.open(tmp_path / "t") as t:
        f = t.getmember("x/file.txt")
        assert (f.mode, f.uid, f.gid, f.mtime) == (0o600, 0, 0, 1234567890)
        assert t.extractfile("x/file.txt").read() == b"from the web"
        assert t.getmember("y/__unnamed__").mtime == 0
        g = t.getmember("named")
        assert (g.mode, g.uid, g.gid) == (0o644, 3, 4)


def test_an_unchanged_url_is_neither_loaded_nor_added_again(two, build, web):
    url = web.put("/f", "v1", ETag='"1"', Last_Modified=WHEN)
    build("ADD %s /\n" % url)
    before = web.paths("GET")
    build("ADD %s /\n" % url)
    assert any("ADD" in n for n in build.result.cached())
    assert web.paths("GET") == before
    web.put("/f", "v2", ETag='"2"', Last_Modified=WHEN)
    assert (build("ADD %s /\n" % url) / "f").read_text() == "v2"


def test_a_checksum_decides_what_a_url_may_give(build, web):
    url = web.put("/f", "x")
    good = "sha256:" + hashlib.sha256(b"x").hexdigest()
    bad = "sha256:" + hashlib.sha256(b"y").hexdigest()
    assert (build("ARG S=%s\nADD --checksum=$S %s /\n" % (good, url)) / "f").read_text() == "x"
    build("ADD --checksum=%s %s /\n" % (bad, url), check=False)
    build.result.fails(1, "digest mismatch for", bad)


def test_what_a_web_server_may_not_do(build, web):
    build("ADD %s/absent /\n" % web.url, check=False)
    build.result.fails(1, web.url + "/absent", "invalid response status 404")
    # Forever somewhere else; and a way to a file of the worker's own.
    web.put("/loop", "", **{":status": 302, "Location": "/loop"})
    build("ADD %s/loop /\n" % web.url, check=False)
    build.result.fails(1, "/loop")
    web.put("/file", "", **{":status": 302, "Location": "file:///etc/passwd"})
    build("ADD %s/file /\n" % web.url, check=False)
    build.result.fails(1, "/file")
    web.put("/moved", "", **{":status": 302, "Location": "/target"})
    web.put("/target", "there", Content_Disposition='attachment; filename="../../evil"')
    assert tree(build("ADD %s/moved /x/\n" % web.url)) == ["x/moved"]


# ---- git


def test_git_refs_subdirs_and_modes(build, repo):
    out = build("ADD %s /main\nADD %s#v1 /tag\nADD %s#signed:sub /sub\nADD %s?branch=dev&subdir=sub /dev\nADD %s#%s /commit\n" % (
        repo.url, repo.url, repo.url, repo.url, repo.url, repo.run("rev-parse", "v1")))
    assert (out / "main/README").read_text() == "two" and (out / "tag/README").read_text() == "one"
    assert (out / "commit/README").read_text() == "one"
    assert tree(out / "sub") == ["f"] and tree(out / "dev") == ["f", "g"]
    assert stat.S_IMODE(os.stat(out / "main/bin/exe").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(out / "main/README").st_mode) == 0o644
    assert stat.S_IMODE(os.stat(out / "main/bin").st_mode) == 0o755
    assert tree(out / "main") == ["README", "bin/exe", "sub/f"]


def test_git_protocol_and_long_names(build, web):
    r = webs.Repo(web.git_root, "long", "sha256")
    head = r.commit({"f": "sha256"})
    assert len(head) == 64
    port = registry.free_port()
    daemon = subprocess.Popen(["git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", "--port=%d" % port, "--base-path=" + web.git_root, web.git_root],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        procs.wait_for("git daemon answers", lambda: not subprocess.run(["git", "ls-remote", "git://127.0.0.1:%d/long.git" % port], capture_output=True).returncode)
        out = build("ADD git://127.0.0.1:%d/long.git /x\nADD --keep-git-dir %s/long.git#%s /y\n" % (port, web.url, head))
    finally:
        os.killpg(daemon.pid, 9)
        daemon.wait()
    assert (out / "x/f").read_text() == "sha256" and (out / "y/.git").is_dir()


class Sshd:
    """A server of ssh that lets in whoever has the key."""

    def __init__(self, folder, key):
        self.folder, self.key, self.port, self.p = folder, key, registry.free_port(), None
        self.made = not os.path.isdir("/run/sshd")
        os.makedirs("/run/sshd", exist_ok=True)

    def start(self, host):
        """With a host key of its own for each name."""
        path = self.folder / host
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        opts = ["Port=%d" % self.port, "ListenAddress=127.0.0.1", "HostKey=%s" % path, "AuthorizedKeysFile=%s.pub" % self.key, "StrictModes=no", "UsePAM=no",
                "PermitRootLogin=prohibit-password", "PasswordAuthentication=no", "PidFile=none"]
        self.p = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null"] + [x for o in opts for x in ("-o", o)],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        procs.wait_for("sshd answers", self.answers)

    def answers(self):
        assert self.p.poll() is None
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as s:
            return s.recv(4) == b"SSH-"

    def stop(self):
        if self.p:
            os.killpg(self.p.pid, 9)
            self.p.wait()
            self.p = None

    def close(self):
        self.stop()
        if self.made:
            os.rmdir("/run/sshd")


@pytest.fixture
def sshd(tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    s = Sshd(tmp_path, key)
    try:
        yield s
    finally:
        s.close()


def test_git_over_ssh(fresh, repo, web, ctx, sshd, tmp_path):
    cluster = fresh(workers=1)
    sshd.start("one")
    url = "ssh://root@127.0.0.1:%d%s/r.git" % (sshd.port, web.git_root)
    c = ctx("FROM scratch\nADD %s#v1 /x\nADD --keep-git-dir %s /y\n" % (url, url))
    cluster.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "--ssh", "default=%s" % sshd.key, c)
    assert (tmp_path / "o/x/README").read_text() == "one" and (tmp_path / "o/y/README").read_text() == "two"
    assert url in (tmp_path / "o/y/.git/config").read_text()
    # As a context, too.
    cluster.build("-o", "type=local,dest=%s" % (tmp_path / "o2"), "--ssh", "default=%s" % sshd.key, "-f", "-", url + "#dev:sub", stdin=b"FROM scratch\nCOPY . /\n")
    assert tree(tmp_path / "o2") == ["f", "g"]
    # Nobody else has been let in, and no socket is left.
    cluster.build("-o", "type=cacheonly", "--no-cache", c, check=False).fails(1, 'no SSH key "default" forwarded from the client: build with --ssh default', "Dockerfile:")
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    cluster.build("-o", "type=cacheonly", "--no-cache", "--ssh", "default=%s" % other, c, check=False).fails(1, "Permission denied", "Dockerfile:")
    procs.wait_for("no socket is left", lambda: not glob.glob(os.path.join(cluster.states["worker-1"], "**", ".agent.*"), recursive=True, include_hidden=True))
    # A server that is suddenly another one is not trusted.
    sshd.stop()
    sshd.start("two")
    cluster.build("-o", "type=cacheonly", "--no-cache", "--ssh", "default=%s" % sshd.key, c, check=False).fails(1, "Host key verification failed", "Dockerfile:")


def test_a_commit_is_the_same_by_any_name(two, build, repo):
    build("ADD %s#v1 /x\n" % repo.url)
    build("ADD %s#%s /x\n" % (repo.url, repo.run("rev-parse", "v1")))
    assert any("ADD" in n for n in build.result.cached())
    assert (build("ADD %s#main /x\n" % repo.url) / "x/README").read_text() == "two"
    repo.commit({"README": "three"})
    assert (build("ADD %s#main /x\n" % repo.url) / "x/README").read_text() == "three"


def test_git_checksum(build, repo):
    head = repo.head()
    build("ADD --checksum=%s %s#main /x\nADD --checksum=%s %s /y\n" % (head, repo.url, head[:12], repo.url))
    build("ADD --checksum=%s %s#v1 /x\n" % (head, repo.url), check=False)
    build.result.fails(1, "expected checksum to match " + head)


def test_keep_git_dir_gives_a_repository(build, repo):
    out = build("ADD --keep-git-dir %s#v1 /x\n" % repo.url)
    assert repo.run("-c", "safe.directory=*", "status", "--porcelain", cwd=str(out / "x")) == ""
    assert repo.run("-c", "safe.directory=*", "rev-parse", "HEAD", cwd=str(out / "x")) == repo.run("rev-parse", "v1")
    assert repo.run("-c", "safe.directory=*", "describe", "--tags", cwd=str(out / "x")) == "v1"
    assert repo.run("-c", "safe.directory=*", "remote", "get-url", "origin", cwd=str(out / "x")) == repo.url


def test_submodules_come_along(build, repo, web):
    inner = webs.Repo(web.git_root, "inner")
    inner.commit({"i": "inner"})
    repo.run("-c", "protocol.file.allow=always", "submodule", "add", "-q", "../inner.git", "mod", cwd=repo.work)
    repo.commit({})
    out = build("ADD %s /x\nADD %s?submodules=false /y\n" % (repo.url, repo.url))
    assert (out / "x/mod/i").read_text() == "inner"
    assert not [n for n in tree(out / "x") if "/.git" in n]
    assert not (out / "y/mod/i").exists()


def test_what_a_repository_may_not_do(build, repo, web):
    # A link out of the checkout as the subdir, and on the way to it.
    repo.commit({"out": ("link", "/etc"), "loop": ("link", "loop")})
    for name in ("out", "loop", "README", "absent", "out/ssl"):
        build("ADD %s#main:%s /x\n" % (repo.url, name), check=False)
        build.result.fails(1, "subdir %s of %s" % (name, repo.url))
    # Submodules on disks of the worker, and commands in place of a repository.
    for url in ("/etc", "file:///etc", "ext::touch /tmp/bxc-was-here"):
        with open(os.path.join(repo.work, ".gitmodules"), "w") as f:
            f.write('[submodule "m"]\n\tpath = m\n\turl = %s\n\tupdate = !touch /tmp/bxc-was-here\n' % url)
        repo.run("update-index", "--add", "--cacheinfo", "160000,%s,m" % repo.head())
        repo.run("add", ".gitmodules")
        repo.run("commit", "-q", "-m", "m")
        repo.push()
        build("ADD %s /x\n" % repo.url, check=False)
        build.result.fails(1, repo.url)
        assert not os.path.exists("/tmp/bxc-was-here")


def test_missing_and_private_repositories(build, web, repo):
    build("ADD %s/absent.git /x\n" % web.url, check=False)
    build.result.fails(1, "absent.git")
    build("ADD %s#no-such-branch /x\n" % repo.url, check=False)
    build.result.fails(1, "does not contain ref no-such-branch")
    web.git_auth = "basic x"
    build("ADD %s /private\n" % repo.url, check=False)
    build.result.fails(1, repo.url)


def test_passwords_of_urls_are_not_shown(build, web):
    url = web.url.replace("http://", "http://me:hunter2@")
    build("ADD %s/absent.git /x\n" % url, check=False)
    build.result.fails(1, "absent.git")
    steps = [line for line in build.result.text.splitlines() if "hunter2" in line and not line.lstrip().startswith((">>>", "2 |", "1 |")) and "ADD " not in line]
    assert not steps


# ---- contexts


def archive(files, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as t:
        for name, data in files.items():
            i = tarfile.TarInfo(name)
            i.size, i.mode, i.uid, i.mtime = len(data), 0o640, 7, 1500000000
            t.addfile(i, io.BytesIO(data.encode()))
    return out.getvalue()


def zstd(data):
    return subprocess.run(["zstd", "-q"], input=data, check=True, capture_output=True).stdout


FILES = {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "from the archive", "x/Dockerfile": "FROM scratch\nCOPY a /from-x\n"}


@pytest.mark.parametrize("form", ["tar", "gz", "bz2", "xz", "zst"])
def test_an_archive_on_standard_input_is_the_context(two, tmp_path, form):
    """1.4 Stdin"""
    data = zstd(archive(FILES)) if form == "zst" else archive(FILES, "w" if form == "tar" else "w:" + form)
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "-", stdin=data)
    assert {n: (tmp_path / "o" / n).read_text() for n in tree(tmp_path / "o")} == {"a": "from the archive"}
    two.build("-o", "type=local,dest=%s" % (tmp_path / "p"), "-f", "x/Dockerfile", "-", stdin=data)
    assert tree(tmp_path / "p") == ["from-x"]


def test_the_same_archive_is_not_sent_twice(two, tmp_path):
    data = archive(dict(FILES, a="sent once"))
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "-", stdin=data)
    second = two.build("-o", "type=local,dest=%s" % (tmp_path / "p"), "-", stdin=data)
    assert any("COPY" in n for n in second.cached())


def test_hostile_archives_stay_in_the_context(two, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, kind, link in (("Dockerfile", None, None), ("up", tarfile.SYMTYPE, "../../../../etc"), ("up/bxc-was-here", None, None), ("../bxc-was-here", None, None)):
            i = tarfile.TarInfo(name)
            data = b"FROM scratch\nCOPY . /\n"
            if kind:
                i.type, i.linkname = kind, link
            else:
                i.size = len(data)
            t.addfile(i, None if kind else io.BytesIO(data))
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "-", stdin=out.getvalue(), check=False)
    assert not os.path.exists("/etc/bxc-was-here")
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "-", stdin=b"\x1f\x8b\x08" + os.urandom(100), check=False).fails(1)


def test_a_dockerfile_on_standard_input(two, ctx, tmp_path):
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "-", stdin=b"FROM scratch\nCOPY <<E /here\nhi\nE\n")
    assert (tmp_path / "o/here").read_text() == "hi\n"
    two.build("-", stdin=b"FROM scratch\nCOPY x /\n", check=False).fails(1, "\"/x\": not found")
    folder = ctx("FROM scratch\nCOPY no /\n", x="x", log="l", **{".dockerignore": "log\n"})
    two.build("-o", "type=local,dest=%s" % (tmp_path / "p"), "-f", "-", folder, stdin=b"FROM scratch\nCOPY . /\n")
    assert tree(tmp_path / "p") == [".dockerignore", "Dockerfile", "x"]
    two.build("-f", "-", "-", stdin=b"x", check=False).fails(2, "can't use stdin for both build context and dockerfile")
    two.build("-f", "Dockerfile", "-", stdin=b"FROM scratch\n", check=False).fails(2, "ambiguous Dockerfile source")
    two.build("-", check=False).fails(1, "standard input is empty")
    two.build("-", stdin=b"FROM scratch\nCOPPY a b\n", check=False).fails(1, "Dockerfile:2", "COPPY a b")


def test_git_contexts(two, repo, tmp_path):
    """1.4 Git context"""
    repo.commit({"Dockerfile": "FROM scratch\nCOPY . /all/\n", ".dockerignore": "README\n",
                 "sub/Dockerfile": "FROM scratch\nCOPY f /sub-f\n", "sub/other.Dockerfile": "FROM scratch\nCOPY f /other-f\n"})
    repo.run("checkout", "-q", "dev")
    repo.commit({"dockerfile": "FROM scratch\nCOPY sub/g /lower-case\n"})
    for args, want in (([repo.url], None), ([repo.url + "#main:sub"], ["sub-f"]), ([repo.url + "?branch=main&subdir=sub"], ["sub-f"]),
                       (["-f", "other.Dockerfile", repo.url + "#main:sub"], ["other-f"]), ([repo.url + "#dev"], ["lower-case"])):
        out = tmp_path / ("o%d" % len(os.listdir(tmp_path)))
        two.build("-o", "type=local,dest=%s" % out, *args)
        # No ignore file is applied to what the client does not have.
        assert tree(out) == (want or ["all/" + n for n in (".dockerignore", "Dockerfile", "README", "bin/exe", "sub/Dockerfile", "sub/f", "sub/other.Dockerfile")])
    two.build("-o", "type=local,dest=%s" % (tmp_path / "mine"), "-f", "-", repo.url, stdin=b"FROM scratch\nCOPY README /mine\n")
    assert tree(tmp_path / "mine") == ["mine"]
    two.build(repo.url + "#v1", check=False).fails(1, "failed to read dockerfile: open Dockerfile: no such file or directory")
    two.build(repo.url + "#nope", check=False).fails(1, "does not contain ref nope")
    two.build("http://127.0.0.1:1/x.git?bad=1", check=False).fails(2, "unexpected query \"bad\"")
    repo.run("checkout", "-q", "main")
    repo.commit({"Dockerfile": "FROM scratch\nCOPPY a b\n"})
    two.build(repo.url, check=False).fails(1, "Dockerfile:2", ">>> COPPY a b")


def test_url_contexts_and_dockerfiles(two, ctx, web, tmp_path):
    """1.4 HTTP context"""
    out = "type=local,dest=%s" % (tmp_path / "o")
    two.build("-o", out, web.put("/c.tar.gz", archive(FILES, "w:gz")))
    assert (tmp_path / "o/a").read_text() == "from the archive"
    two.build("-o", "type=local,dest=%s" % (tmp_path / "p"), web.put("/Df", "FROM scratch\nCOPY <<E /r\nx\nE\n" + "# %s\n" % ("long " * 2000)))
    assert tree(tmp_path / "p") == ["r"]
    two.build("-o", "type=local,dest=%s" % (tmp_path / "q"), "-f", web.put("/other", "FROM scratch\nCOPY f /by-url\n"), ctx("FROM nothing\n", f="f"))
    assert tree(tmp_path / "q") == ["by-url"]
    two.build("-f", web.put("/bad", "FROM scratch\nCOPPY f /\n"), ctx("FROM nothing\n"), check=False).fails(1, ">>> COPPY f /")
    two.build(web.url + "/absent", check=False).fails(1, "invalid response status 404")
    two.build("/no/such/folder", check=False).fails(1, "unable to prepare context: path \"/no/such/folder\" not found")


def test_the_time_of_a_context(two, ctx, web, repo, reg, tmp_path):
    """1.4 SOURCE_DATE_EPOCH: the context's, a named context's, a stage's"""
    repo.commit({"Dockerfile": "FROM scratch\nCOPY README /\n"}, when=1600000100)

    def created(*args, of="context", **kw):
        two.build("-o", "type=oci,dest=%s" % (tmp_path / "t"), "--build-arg", "SOURCE_DATE_EPOCH=" + of, *args, **kw)
        with tarfile.open(tmp_path / "t") as t:
            def blob(d):
                return t.extractfile("blobs/sha256/" + d["digest"][7:]).read()
            manifest = json.loads(blob(json.loads(t.extractfile("index.json").read())["manifests"][0]))
            while "config" not in manifest:
                manifest = json.loads(blob(manifest["manifests"][0]))
            return json.loads(blob(manifest["config"]))["created"]
    assert created(repo.url) == "2020-09-13T12:28:20Z"
    assert created(web.put("/c.tar", archive(FILES), Last_Modified=WHEN)) == "2009-02-13T23:31:30Z"
    assert created("-", stdin=archive(FILES)) == "2017-07-14T02:40:00Z"
    # Files of a repository get the time of the commit then, unless the URL says otherwise.
    repo.commit({"Dockerfile": "FROM %s\nRUN --mount=target=/m echo time=$(stat -c %%Y /m/README)\n" % reg.ref("base:latest")}, when=1600000200)

    def file_time(url, *args):
        r = two.build("-o", "type=cacheonly", "--no-cache", *args, url)
        return int(r.text.split("time=")[-1].split()[0])
    assert file_time(repo.url) > 1700000000
    assert file_time(repo.url, "--build-arg", "SOURCE_DATE_EPOCH=1700000000") == 1600000200
    assert file_time(repo.url + "?mtime=checkout", "--build-arg", "SOURCE_DATE_EPOCH=1700000000") > 1700000000

    undated = web.put("/undated.tar", archive(FILES))
    stages = ctx("""
        ARG SOURCE_DATE_EPOCH=src
        FROM scratch AS src
        ARG NAME=c
        ADD %s/$NAME.tar /
        FROM scratch AS repo
        ADD %s /
        FROM scratch
        COPY --from=src / /
        """ % (web.url, repo.url))
    assert created("--build-context", "up=" + repo.url, stages, of="up") == "2020-09-13T12:30:00Z"
    assert created("--build-context", "up=" + web.url + "/c.tar", stages, of="up") == "2009-02-13T23:31:30Z"
    assert created("--build-context", "up=" + undated, stages, of="up") == "2017-07-14T02:40:00Z"
    assert created(stages, of="repo") == "2020-09-13T12:30:00Z"
    assert created(stages, of="src") == "2009-02-13T23:31:30Z"
    assert created("--build-arg", "NAME=undated", stages, of="src") == "2017-07-14T02:40:00Z"
    two.build("--build-arg", "SOURCE_DATE_EPOCH=none", stages, check=False).fails(1, "invalid SOURCE_DATE_EPOCH: none")


# ---- named contexts


def test_a_named_stage_stands_for_stages_and_images(two, ctx, tmp_path):
    folder = ctx("FROM scratch AS base\nCOPY f /base\nFROM no/such AS old\nCOPY never /\nFROM img\nCOPY --from=old / /old/\nCOPY --from=img:latest /base /again\n", f="f")
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "--build-context", "img=target:base", "--build-context", "old=target:base", folder)
    assert tree(tmp_path / "o") == ["again", "base", "old/base"]


def test_a_named_folder_stands_for_stages_and_images(two, ctx, tmp_path):
    other = context(tmp_path / "other", {"f": "named", "log": "l", ".dockerignore": "log\n.dockerignore\n"})
    folder = ctx("FROM scratch AS base\nCOPY no-such /\n\nFROM scratch AS a\nCOPY --from=base . /a/\nCOPY --from=img f /b\n\nFROM img\nCOPY --from=a / /\n")
    r = two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "--build-context", "base=%s" % other, "--build-context", "img:latest=%s" % other, folder)
    assert tree(tmp_path / "o") == ["a/f", "b", "f"]
    assert "[context base] load from client" in r.text and "[context img] load from client" in r.text
    two.build("--build-context", "base=/no/such", folder, check=False).fails(1, "failed to get build context base")
    two.build("--build-context", "base", folder, check=False).fails(2, "invalid context value: base, expected key=value")
    two.build("--build-context", "base=target:x", folder, check=False).fails(1, "context base: there is no stage \"x\" above this line")
    two.build("--build-context", "B A D=x", folder, check=False).fails(2, "invalid context name B A D")


def test_only_what_is_used_of_a_named_folder_is_sent(two, ctx, tmp_path):
    other = context(tmp_path / "other", {"small": "s", "large": "l" * (3 << 20)})
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "--build-context", "x=%s" % other, ctx("FROM scratch\nCOPY --from=x small /\n"))
    sent = [int(e["current"]) for e in two.events() if e["type"] == "status" and e["id"] == "transferring x:"]
    assert sent and max(sent) < 10000


def test_a_mount_reads_a_named_folder(two, ctx, reg, tmp_path):
    other = context(tmp_path / "other", {"f": "mounted"})
    two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "--build-context", "x=%s" % other,
              ctx("FROM %s AS b\nRUN --mount=from=x,target=/m cat /m/f > /out\nFROM scratch\nCOPY --from=b /out /\n" % reg.ref("base:latest")))
    assert (tmp_path / "o/out").read_text() == "mounted"


def test_named_images_repositories_and_urls(two, ctx, reg, repo, web, tmp_path):
    """1.4 Named contexts"""
    own = ctx("FROM %s\nENV WHO=replacement\n" % reg.ref("base:latest"))
    two.build("-t", reg.ref("own:1"), "--push", own)
    folder = ctx("FROM alpine AS a\nRUN echo $WHO > /who\n\nFROM scratch\nCOPY --from=a /who /\nCOPY --from=repo README /readme\nCOPY --from=file context /file\n")
    r = two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "--build-context", "docker.io/library/alpine=docker-image://" + reg.ref("own:1"),
                  "--build-context", "repo=%s#v1" % repo.url, "--build-context", "file=" + web.put("/f", "by url"), folder)
    assert {n: (tmp_path / "o" / n).read_text() for n in tree(tmp_path / "o")} == {"who": "replacement\n", "readme": "one", "file": "by url"}
    assert "[context alpine] " + reg.ref("own:1") in r.text
    two.build("-o", "type=local,dest=%s" % (tmp_path / "p"), "--build-context", "b=docker-image://scratch", ctx("FROM b\nCOPY Dockerfile /\n"))
    assert tree(tmp_path / "p") == ["Dockerfile"]


def layout(folder, tar):
    with tarfile.open(tar) as t:
        t.extractall(folder)
    return json.loads((folder / "index.json").read_text())["manifests"][0]["digest"]


def test_an_oci_layout_is_a_base(two, reg, ctx, tmp_path):
    # Of its own content, so that no worker has its layer.
    two.build("-o", "type=oci,name=x/y:v1,dest=%s" % (tmp_path / "t"), ctx("FROM scratch\nENV K=layout\nCOPY <<E /base\n%s\nE\n" % tmp_path))
    digest = layout(tmp_path / "l", tmp_path / "t")
    folder = ctx("FROM base\nCOPY Dockerfile /\n")
    for ref in ("", ":v1", ":latest", "@" + digest):
        two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), "--build-context", "base=oci-layout://%s%s" % (tmp_path / "l", ref), folder)
        assert tree(tmp_path / "o") == ["Dockerfile", "base"]
    r = two.build("-t", reg.ref("on-layout:1"), "--push", "--build-context", "base=oci-layout://%s" % (tmp_path / "l"), folder)
    assert "[context base] OCI load from client" in r.text
    pushed = reg.manifest("on-layout", "1")
    pushed = pushed if "config" in pushed else json.loads(reg.get("on-layout", "manifests", pushed["manifests"][0]["digest"]))
    base = json.loads((tmp_path / "l/blobs/sha256" / digest[7:]).read_text())
    base = base if "config" in base else json.loads((tmp_path / "l/blobs/sha256" / base["manifests"][0]["digest"][7:]).read_text())
    assert [x["digest"] for x in pushed["layers"]][:1] == [x["digest"] for x in base["layers"]]
    two.build("--build-context", "base=oci-layout://%s@sha256:%s" % (tmp_path / "l", "0" * 64), folder, check=False).fails(1, "OCI layout")


def test_a_layout_that_lies_is_refused(fresh, ctx, tmp_path):
    c = fresh(workers=1)
    c.build("-o", "type=oci,dest=%s" % (tmp_path / "t"), ctx("FROM scratch\nCOPY <<E /base\nlie\nE\n"))
    digest = layout(tmp_path / "l", tmp_path / "t")
    blobs = tmp_path / "l/blobs/sha256"
    manifest = json.loads((blobs / digest[7:]).read_text())
    if "config" not in manifest:
        manifest = json.loads((blobs / manifest["manifests"][0]["digest"][7:]).read_text())
    layer = blobs / manifest["layers"][0]["digest"][7:]
    good = layer.read_bytes()
    fresh_one = fresh(workers=1)
    folder = ctx("FROM base\nCOPY Dockerfile /\n")
    args = ["--build-context", "base=oci-layout://%s" % (tmp_path / "l"), "-o", "type=local,dest=%s" % (tmp_path / "o"), folder]
    layer.write_bytes(good[:-1] + b"x")
    fresh_one.build(*args, check=False).fails(1, "layer of an OCI layout")
    layer.unlink()
    layer.symlink_to("/etc/passwd")
    fresh_one.build(*args, check=False).fails(1, "OCI layout")
    layer.unlink()
    layer.write_bytes(good)
    fresh_one.build(*args)
    config = blobs / manifest["config"]["digest"][7:]
    config.write_bytes(config.read_bytes() + b" ")
    fresh_one.build(*args, check=False).fails(1, "its bytes have another digest")
