"""Sources that lie elsewhere: files of web servers and git repositories."""
import hashlib
import os
import stat
import tarfile

import pytest

from harness import web as webs

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
