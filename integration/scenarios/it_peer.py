"""The same Dockerfile through buildah: the same configuration and the same tree. What may differ is listed, each with its reason."""
import fnmatch
import os
import subprocess
import time

import pytest

from harness import image
from harness.cluster import context

# name -> (Dockerfile, files, what of it buildah does otherwise: path or field -> reason)
CASES = {
    "copies": ("COPY f d/sub/x /one/\nCOPY d /two\nCOPY d/ /three/\nCOPY *.txt ?.md /four/\nCOPY d/sub /two/sub\nCOPY f /renamed\nWORKDIR /w\nCOPY f .\nCOPY f rel/\n", {}),
    "owners": ("RUN echo 'app:x:41:42::/:/bin/sh' >> /etc/passwd && echo 'staff:x:50:' >> /etc/group\nCOPY --chown=5:6 f /n\nCOPY --chown=app f /name\n"
               "COPY --chown=app:staff f /both\nCOPY --chown=7 d /seven/\nUSER app\nCOPY f /root-owned\n", {"/seven*": "7 alone: the group is 7 in the reference, 0 in buildah"}),
    "stages": ("RUN mkdir -p /s/in && echo x > /s/in/f && chown -R 3:4 /s && chmod 2750 /s/in && ln -s in /s/link && ln /s/in/f /s/hard\n"
               "FROM {base}\nCOPY --from=0 /s /t\nCOPY --from=0 /s/in/f /file\nCOPY --from=0 /s/in/f /s/hard /parts/\n", {}),
    "links": ("RUN mkdir /real && ln -s /real /alias\nCOPY f /alias/f\nCOPY d /alias/d\n", {}),
    "steps": ("RUN echo a > /a && echo b > /b\nRUN rm /a && mkdir /c && echo c > /c/x\nRUN rm -r /c && mkdir /c && echo d > /c/y && chmod 700 /c && chown 9:9 /c/y\n"
              "RUN ln -s /c /l && mkfifo /p\n", {}),
    "variables": ("ARG A=1\nARG B\nENV X=$A Y=${{B:-none}} Z=\"a b\"\nENV P=$X-$Y\nRUN echo \"$A $B $X $P\" > /seen\nCOPY $A.md /${{X}}x/\nLABEL l=$X m='$X'\nWORKDIR /v/$X\n", {"/v*": "buildah makes no folder of a WORKDIR in which nothing is done"}),
    "config": ("ENV K=v\nLABEL a=1 b=\"two words\"\nEXPOSE 80 53/udp\nVOLUME /data /more\nUSER 10:20\nWORKDIR /w\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"echo\", \"hi\"]\nSTOPSIGNAL SIGUSR1\n", {"/w": "buildah makes no folder of a WORKDIR in which nothing is done"}),
    "shell forms": ("SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN echo $0 > /zero\nENTRYPOINT run me\nCMD and me\n", {"Cmd": "SHELL counts here in the reference, not in buildah", "Entrypoint": "as above"}),
    "cmd reset": ("CMD [\"a\"]\nENTRYPOINT [\"b\"]\n", {}),
    "workdirs": ("WORKDIR /a\nWORKDIR b/c\nWORKDIR ../d\nRUN pwd > pwd\nUSER 1234\nWORKDIR /owned/below\n",
                 {"/a/b*": "buildah makes no folder of a WORKDIR in which nothing is done", "/owned*": "the reference makes folders of WORKDIR the user's; buildah makes them root's"}),
    "archives": ("ADD t.tar.gz /un/\nADD t.tar.gz /un/two/\nADD f /added/\nCOPY t.tar.gz /kept/\n", {"/un": "the archive's own root counts in buildah, not in the reference", "/un/two": "as above"}),
    "ignored": ("COPY . /all/\n", {}),
    "onbuild": ("ONBUILD RUN echo triggered > /t\nONBUILD COPY f /from-trigger\n", {}),
    "heredoc-free script": ("RUN set -e; \\\n  # a comment\n  echo one > /1; \\\n\n  echo two > /2\n", {}),
    "cleanup": ("RUN touch /tmp/x /var/y 2>/dev/null || true; rm -rf /tmp/x; echo done > /done\n", {}),
    "scratch": ("FROM scratch\nCOPY d /\nCOPY f /etc/f\nENV A=b\nCMD [\"/f\"]\n", {"WorkingDir": "nothing begins at / in the reference, nowhere in buildah"}),
}

# Of every case.
FIELDS = {
    "Labels/io.buildah.version": "buildah signs what it makes",
    "Hostname": "buildah keeps the name of its container",
    "ArgsEscaped": "the reference sets it with CMD and ENTRYPOINT; to other tools it means nothing",
}
PATHS = {
    "/": "buildah tells nothing of the root where a step left it alone",
    "/proc": "mount points that buildah leaves behind", "/sys": "as above", "/dev": "as above", "/run": "as above", "/run/.containerenv": "as above", "/etc": "as above",
    "*/g": "buildah takes the setuid bit from files of a context",
    "/etc/hosts": "as above", "/etc/hostname": "as above", "/etc/resolv.conf": "as above",
}


def archive(folder):
    d = os.path.join(folder, "made")
    os.makedirs(os.path.join(d, "in"))
    with open(os.path.join(d, "in", "f"), "w") as f:
        f.write("archived\n")
    os.chmod(os.path.join(d, "in"), 0o711)
    os.utime(os.path.join(d, "in", "f"), (7000, 7000))
    os.symlink("in/f", os.path.join(d, "link"))
    subprocess.run(["tar", "-czf", os.path.join(folder, "t.tar.gz"), "--owner=3", "--group=4", "-C", d, "."], check=True)
    subprocess.run(["rm", "-r", d], check=True)


def files(folder, dockerfile):
    c = context(folder, {"Dockerfile": dockerfile, "f": "f\n", "a.txt": "a\n", "b.txt": "b\n", "1.md": "1\n", "d/sub/x": "x\n", "d/g": "g\n", "node_modules/z": "z\n",
                         "d/skip.o": "o\n", "d/keep.o": "k\n", ".dockerignore": "node_modules\n**/*.o\n!d/keep.o\nt.tar.gz.none\n"})
    archive(c)
    os.chmod(os.path.join(c, "d/g"), 0o4750)
    os.chmod(os.path.join(c, "d/sub"), 0o750)
    for n in ("f", "a.txt", "d/g", "d/sub/x", "d/sub"):
        os.utime(os.path.join(c, n), (5000, 5000))
    return c


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("buildah")
    return ["buildah", "--root", str(folder / "s"), "--runroot", str(folder / "r"), "--storage-driver", "vfs"]


def by_buildah(store, reg, ref, folder, *args):
    for argv in (["bud", "--isolation", "chroot", "--format", "docker", "--tls-verify=false", "--layers", "-t", ref, *args, folder], ["push", "--tls-verify=false", ref]):
        p = subprocess.run(store + argv, capture_output=True, text=True)
        assert p.returncode == 0, p.stdout + p.stderr


def flat(value, name=""):
    """Fields of a configuration by name; one that is empty is not there, a member of a set is."""
    if isinstance(value, dict) and (value or "/" not in name):
        return {k: v for n, x in value.items() for k, v in flat(x, name + "/" + n if name else n).items()}
    return {name: value} if value not in (None, "", [], False, 0) else {}


def is_told(path, reasons):
    return any(fnmatch.fnmatchcase(path, r) for r in reasons)


def differences(ours, theirs, told):
    return ["%s: ours %s, theirs %s" % (k, ours.get(k), theirs.get(k)) for k in sorted(set(ours) | set(theirs)) if ours.get(k) != theirs.get(k) and not is_told(k, told)]


def without_new_times(tree, since):
    return {n: {k: v for k, v in e.items() if k != "mtime" or v < since} for n, e in tree.items()}


@pytest.mark.parametrize("name", CASES)
def test_buildah_makes_the_same(two, reg, store, tmp_path, name):
    text, told = CASES[name]
    base = reg.ref("base:latest")
    dockerfile = (text if text.startswith("FROM") else "FROM {base}\n" + text).format(base=base)
    since = int(time.time()) - 5
    folder = files(tmp_path / "ctx", dockerfile)
    repo = "peer-" + name.replace(" ", "-")
    args = ["--build-arg", "B=given"] if "ARG B" in text else []
    two.build("-t", reg.ref(repo + ":ours"), "--push", "--provenance=false", *args, folder)
    by_buildah(store, reg, reg.ref(repo + ":theirs"), folder, *args)
    ours, theirs = image.config(reg, repo, "ours"), image.config(reg, repo, "theirs")
    assert differences(flat(ours["config"]), flat(theirs["config"]), {**FIELDS, **told}) == []
    assert (ours["architecture"], ours["os"]) == (theirs["architecture"], theirs["os"])
    # Each counts its layers in its history as they are.
    for c in (ours, theirs):
        assert sum(not h.get("empty_layer") for h in c["history"]) == len(c["rootfs"]["diff_ids"])
    trees = [without_new_times(image.tree(reg, repo, ref), since) for ref in ("ours", "theirs")]
    assert differences(*trees, {**PATHS, **told}) == []
