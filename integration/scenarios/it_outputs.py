"""Forms of outputs: folders, layers and their compression, several platforms."""
import glob
import json
import os
import re
import subprocess
import tarfile

import pytest

from harness import oci
from harness.cluster import context

GZIP, ZSTD, PLAIN = (oci.LAYER + s for s in ("+gzip", "+zstd", ""))
REF, NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"


@pytest.fixture
def scratch(tmp_path):
    return context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY f /d/f\n", "f": "hello\n"})


def types(manifest):
    return [x["mediaType"] for x in manifest["layers"]]


def test_an_oci_folder_is_a_layout_that_keeps_what_it_had(two, scratch, tmp_path):
    out = tmp_path / "deep" / "layout"
    for args in (["-t", "a/b:one"], ["-t", "a/b:two"], []):
        two.build("-o", "type=oci,tar=false,dest=%s" % out, "--provenance=false", *args, scratch)
    index = json.loads((out / "index.json").read_text())
    assert json.loads((out / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert [m["annotations"].get(NAME) for m in index["manifests"]] == ["docker.io/a/b:one", "docker.io/a/b:two", None]
    assert [m["annotations"][REF] for m in index["manifests"]] == ["one", "two", "latest"]
    subprocess.run(["skopeo", "inspect", "oci:%s:two" % out], check=True, capture_output=True)
    # Again under a name that is there: replaced, not added.
    with open(os.path.join(scratch, "f"), "w") as f:
        f.write("changed\n")
    two.build("-o", "type=oci,tar=false,dest=%s" % out, "-t", "a/b:one", "--provenance=false", scratch)
    after = json.loads((out / "index.json").read_text())["manifests"]
    assert len(after) == 3 and len({m["digest"] for m in after}) == 2
    for d in after:
        manifest = json.loads((out / "blobs/sha256" / d["digest"].split(":")[1]).read_text())
        assert all((out / "blobs/sha256" / x["digest"].split(":")[1]).exists() for x in manifest["layers"] + [manifest["config"]])
    two.build("-o", "type=docker,tar=false,dest=%s" % out, scratch, check=False).fails(2, "for the oci exporter only")
    two.build("-o", "type=oci,tar=false", scratch, check=False).fails(2, "dest is required")


def test_mode_delete_makes_the_folder_the_result_and_nothing_else(two, scratch, tmp_path):
    def dirty(folder):
        context(folder, {"stale": "x", "d/stale": "x", "d/sub/stale": "x", "d/f": "old"})
        os.symlink("/etc", folder / "link")
        return folder
    work = tmp_path / "work"
    out = dirty(work / "out")
    two.build("-o", "type=local,dest=out", "--provenance=false", scratch, cwd=str(work))
    assert (out / "stale").exists() and (out / "d/f").read_text() == "hello\n"
    two.build("-o", "type=local,dest=out,mode=delete", "--provenance=false", scratch, cwd=str(work))
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*")) == ["d", "d/f"]
    assert os.path.exists("/etc/passwd")
    # Elsewhere only when that is allowed; a link below the working folder may lead elsewhere.
    other = dirty(tmp_path / "other")
    os.symlink(other, work / "away")
    for dest in (str(other), "../other", ".", "away", "new/../../other"):
        r = two.build("-o", "type=local,mode=delete,dest=" + dest, scratch, cwd=str(work), check=False)
        r.fails(2, "--allow buildx.local.delete")
    assert (other / "stale").exists()
    two.build("-o", "type=local,dest=%s,mode=delete" % other, "--allow", "buildx.local.delete", "--provenance=false", scratch, cwd=str(work))
    assert sorted(p.name for p in other.iterdir()) == ["d"]
    two.build("-o", "type=local,dest=out,mode=bogus", scratch, cwd=str(work), check=False).fails(2, "invalid mode 'bogus'")


MULTI = ("FROM scratch AS base\nARG TARGETPLATFORM\nARG TARGETARCH\nARG TARGETVARIANT\nCOPY common /common\nCOPY ${TARGETARCH}${TARGETVARIANT} "
         "/own-${TARGETARCH}${TARGETVARIANT}\nLABEL p=$TARGETPLATFORM\n")


@pytest.fixture
def multi(tmp_path):
    return context(tmp_path / "ctx", {"Dockerfile": MULTI, "common": "c\n", "amd64": "x\n", "arm64": "y\n", "armv7": "z\n"})


def test_platforms_stand_in_the_index_in_the_order_asked_for(two, reg, multi, tmp_path):
    want = ["linux/arm/v7", "linux/amd64", "linux/arm64"]
    two.build("--platform", "linux/arm/v7,linux/amd64", "--platform", "linux/arm64,amd64", "-t", reg.ref("order:x"), "--push", multi)
    index = reg.document("order", "x")
    got = [m for m in index["manifests"] if m["platform"]["os"] != "unknown"]
    assert ["/".join(filter(None, (m["platform"]["os"], m["platform"]["architecture"], m["platform"].get("variant")))) for m in got] == want
    # What tells of them comes after all of them.
    assert index["manifests"][:3] == got
    for m, platform in zip(got, want):
        manifest = json.loads(reg.get("order", "manifests", m["digest"]))
        config = json.loads(reg.get("order", "blobs", manifest["config"]["digest"]))
        assert config["config"]["Labels"]["p"] == platform
        assert "/".join(filter(None, (config["os"], config["architecture"], config.get("variant")))) == platform
    # The layer that is the same for all is one blob.
    first = [json.loads(reg.get("order", "manifests", m["digest"]))["layers"][0]["digest"] for m in got]
    assert len(set(first)) == 1
    subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--override-arch", "arm64", "docker://" + reg.ref("order:x")], check=True, capture_output=True)


def test_trees_of_platforms_are_split_unless_told_otherwise(two, multi, tmp_path):
    p = ["--platform", "linux/amd64,linux/arm64", "--provenance=false"]
    two.build(*p, "-o", "type=local,dest=%s" % (tmp_path / "split"), "-o", "type=tar,platform-split=false,dest=%s" % (tmp_path / "t.tar"), multi)
    assert sorted(x.name for x in (tmp_path / "split").iterdir()) == ["linux_amd64", "linux_arm64"]
    with tarfile.open(tmp_path / "t.tar") as t:
        assert {"linux_amd64/common", "linux_arm64/common"} <= set(t.getnames())
    two.build("--platform", "linux/amd64", "--provenance=false", "-o", "type=local,platform-split=true,dest=%s" % (tmp_path / "one"), multi)
    assert sorted(x.name for x in (tmp_path / "one").iterdir()) == ["linux_amd64"]
    r = two.build(*p, "-o", "type=local,platform-split=false,dest=%s" % (tmp_path / "all"), multi, check=False)
    r.fails(1, "cannot overwrite common from linux/amd64 with linux/arm64 when split option is disabled")
    with open(os.path.join(multi, "Dockerfile"), "w") as f:
        f.write(MULTI.replace("COPY common /common\n", ""))
    two.build(*p, "-o", "type=local,platform-split=false,dest=%s" % (tmp_path / "all"), multi)
    assert sorted(x.name for x in (tmp_path / "all").iterdir()) == ["own-amd64", "own-arm64"]


def test_every_output_of_one_build_is_made(two, reg, scratch, tmp_path):
    meta = tmp_path / "meta.json"
    two.build("-t", reg.ref("several:x"), "-o", "type=registry", "-o", "type=oci,dest=%s" % (tmp_path / "a.tar"), "-o",
              "type=docker,dest=%s" % (tmp_path / "b.tar"), "-o", "type=local,dest=%s" % (tmp_path / "c"), "-o", "type=tar,dest=%s" % (tmp_path / "d.tar"),
              "-o", "type=cacheonly", "--metadata-file", meta, "--provenance=false", scratch)
    digest = json.loads(meta.read_text())["containerimage.digest"]
    assert reg.has("several", digest) and (tmp_path / "c/d/f").exists()
    with tarfile.open(tmp_path / "a.tar") as t:
        assert json.loads(t.extractfile("index.json").read())["manifests"][0]["digest"] == digest
    for name in ("b.tar", "d.tar"):
        with tarfile.open(tmp_path / name) as t:
            assert t.getnames()


def test_a_name_pushed_by_digest_has_no_tag(two, reg, scratch):
    name = reg.ref("bydigest")
    r = two.build("-o", "type=image,push=true,push-by-digest=true,name=%s:x" % name, scratch, check=False)
    r.fails(1, "can't push tagged ref %s:x by digest" % name)
    two.build("-o", "type=image,push=true,push-by-digest=true,name=" + name, "--metadata-file", scratch + "/../meta", scratch)
    with open(scratch + "/../meta") as f:
        assert reg.has("bydigest", json.load(f)["containerimage.digest"])
    assert not reg.has("bydigest", "latest")


def test_compression_is_of_new_layers_and_forced_of_all(two, reg, tmp_path):
    base = oci.push(reg, "gzbase", [oci.tar([("base", b"base" * 100)])], gzipped=True)
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nCOPY f /f\n" % reg.ref("gzbase:latest"), "f": "text\n" * 1000})

    def push(tag, spec):
        two.build("-o", "type=image,push=true,name=%s,%s" % (reg.ref("forms:" + tag), spec), "--provenance=false", ctx)
        m = reg.manifest("forms", tag)
        return m, reg.config("forms", tag)["rootfs"]["diff_ids"]
    plain, ids = push("plain", "compression=uncompressed")
    assert types(plain) == [GZIP, PLAIN] and plain["layers"][0] == {k: base["layers"][0][k] for k in ("mediaType", "digest", "size")}
    for name, kind, spec in (("zstd", ZSTD, "compression=zstd"), ("none", PLAIN, "compression=uncompressed"), ("gzip", GZIP, "compression=gzip")):
        m, same = push("f" + name, spec + ",force-compression=true")
        assert types(m) == [kind, kind] and same == ids
    assert oci.digest(reg.get("forms", "blobs", reg.manifest("forms", "fnone")["layers"][0]["digest"])) == ids[0]
    subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", "docker://" + reg.ref("forms:fzstd"), "dir:%s" % (tmp_path / "dir")], check=True)
    r = two.build("-o", "type=image,push=true,name=%s,compression=estargz" % reg.ref("forms:e"), ctx, check=False)
    r.fails(1, "estargz")


def test_what_was_compressed_once_is_not_compressed_again(fresh, reg, tmp_path):
    cluster = fresh(workers=1)
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": "text\n" * 1000})

    def blobs():
        return {p: os.stat(p).st_ino for p in glob.glob(cluster.path("worker-1", "content", "blobs", "sha256", "*", "*"))}
    forms = ["gzip", "gzip,compression-level=9", "zstd", "zstd,compression-level=19", "uncompressed"]
    for f in forms:
        cluster.build("-o", "type=image,push=true,name=%s,compression=%s" % (reg.ref("once:x"), f), ctx)
    once = blobs()
    assert len(glob.glob(cluster.path("worker-1", "content", "forms", "*"))) == len(forms)
    for f in forms:
        cluster.build("-o", "type=image,push=true,name=%s,compression=%s" % (reg.ref("once:y"), f), ctx)
    assert blobs() == once
    # What is remembered without its blob counts for nothing.
    for p in once:
        os.unlink(p)
    r = cluster.build("-o", "type=oci,dest=%s" % (tmp_path / "o.tar"), ctx, check=False)
    assert r.rc == 0, r.text
    assert not re.search("not found", r.text)


def test_one_platform_as_if_it_were_several(two, reg, ctx, tmp_path):
    c = ctx("FROM %s\nCOPY f /f\n" % reg.ref("base:latest"), f="x")
    two.build("--build-arg", "BUILDKIT_MULTI_PLATFORM=1", "--provenance=false", "-t", reg.ref("asmany:x"), "--push", "-o", "type=local,dest=%s" % (tmp_path / "o"), c)
    index = reg.document("asmany", "x")
    one, = index["manifests"]
    folder = "%s_%s" % (one["platform"]["os"], one["platform"]["architecture"])
    assert os.listdir(tmp_path / "o") == [folder] and (tmp_path / "o" / folder / "f").read_text() == "x"
    name = next(e["name"] for e in two.events() if e["type"] == "vertex" and "COPY f" in e["name"])
    assert name == "[%s 2/2] COPY f /f" % folder.replace("_", "/")
