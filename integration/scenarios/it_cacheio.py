"""Build caches outside of a cluster: made by one, used by another that shares nothing with it."""
import base64
import glob
import json
import os
import re
import shutil
import urllib.request

import pytest

from harness.cluster import Cluster, context
from harness.oci import MANIFEST, digest
from harness.registry import Registry

CONFIG = "application/vnd.buildkit.cacheconfig.v0"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
REF = "org.opencontainers.image.ref.name"

# Every step leaves something that differs when it runs again; the inner stage is read by content.
STEPS = ("ARG BASE\nFROM ${BASE} AS inner\nRUN cat /proc/sys/kernel/random/uuid > /u\nCOPY f /f\nRUN cat /f /u > /v\n\n"
         "FROM ${BASE}\nARG NONCE\nCOPY --from=inner /v /v\nRUN cat /proc/sys/kernel/random/uuid > /w\nWORKDIR /x\n")


@pytest.fixture(scope="module")
def pair(reg, tmp_path_factory):
    """Two clusters, and a registry that both reach."""
    made = []
    try:
        for i in range(2):
            c = Cluster(tmp_path_factory.mktemp("cluster%d" % i), workers=2)
            made.append(c)
            c.start()
        yield made
    finally:
        for c in made:
            c.stop()


@pytest.fixture
def ctx(reg, tmp_path, request):
    """The context, with a file that no other test has: nothing is cached from before."""
    return context(tmp_path / "ctx", {"Dockerfile": STEPS.replace("ARG NONCE", "LABEL test=%s" % request.node.name).replace(
        "AS inner\n", "AS inner\nWORKDIR /%s\n" % request.node.name), "f": request.node.name + "\n"})


def build(cluster, reg, ctx, out, *args, **kw):
    return cluster.build("--build-arg", "BASE=" + reg.ref("base:latest"), "-o", "type=local,dest=%s" % out, *args, ctx, **kw)


def read(out):
    return [(out / n).read_text() for n in ("v", "w")]


def blobs_of(cluster):
    """Blobs that the workers hold, by digest."""
    return {"sha256:" + os.path.basename(p) for p in glob.glob(cluster.path("worker-*", "content", "blobs", "sha256", "*", "*"))}


def steps_of(result):
    return {n for n in re.findall(r"^#\d+ (\[.*)$", result.text, re.M) if "FROM" not in n and "internal" not in n}


def all_cached(result):
    """Whether no step had to run (what lies below a hit may not be shown)."""
    return steps_of(result) and steps_of(result) <= result.cached()


@pytest.mark.parametrize("attrs", ["mode=max", "mode=max,image-manifest=false", "mode=max,image-manifest=false,oci-mediatypes=false",
                                   "mode=max,compression=zstd", "mode=max,compression=uncompressed,force-compression=true", "mode=min"])
def test_a_registry_carries_the_cache_to_another_cluster(pair, reg, ctx, tmp_path, attrs):
    ref = reg.ref("cache/%s:c" % digest(attrs.encode())[7:19])
    first = build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=registry,ref=%s,%s" % (ref, attrs), "-t", reg.ref("img:a"), "--push",
                  "--provenance=false")
    assert "exporting cache to registry" in first.text and not first.cached() & steps_of(first)
    second = build(pair[1], reg, ctx, tmp_path / "b", "--cache-from", ref, "-t", reg.ref("img:b"), "--push", "--provenance=false")
    assert all_cached(second), second.text
    assert read(tmp_path / "a") == read(tmp_path / "b")
    if "compression" not in attrs:
        # Same layers, same dates: the same image.
        assert reg.manifest("img", "a") == reg.manifest("img", "b")
    assert reg.config("img", "a")["history"] == reg.config("img", "b")["history"]


def test_the_manifest_is_what_other_tools_know(pair, reg, ctx, tmp_path):
    ref = "cache/forms"
    for tag, attrs in (("image", ""), ("index", ",image-manifest=false"), ("list", ",image-manifest=false,oci-mediatypes=false")):
        meta = tmp_path / "meta.json"
        build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=registry,ref=%s:%s,mode=max%s" % (reg.ref(ref), tag, attrs),
              "--metadata-file", meta)
        m = reg.document(ref, tag)
        assert json.loads(json.loads(meta.read_text())["cache.manifest"])["digest"] == digest(reg.get(ref, "manifests", tag))
        if tag == "image":
            assert m["mediaType"] == MANIFEST and m["config"]["mediaType"] == CONFIG
            config, blobs = m["config"], m["layers"]
        else:
            assert m["mediaType"].endswith("image.index.v1+json" if tag == "index" else "manifest.list.v2+json")
            config, blobs = m["manifests"][-1], m["manifests"][:-1]
            assert config["mediaType"] == CONFIG
        assert all(b["mediaType"].startswith("application/vnd.docker" if tag == "list" else "application/vnd.oci") for b in blobs)
        cc = json.loads(reg.get(ref, "blobs", config["digest"]))
        assert {x["blob"] for x in cc["layers"]} == {b["digest"] for b in blobs}
        assert all(r["digest"].startswith("sha256:") for r in cc["records"])
        for r in cc["records"]:
            assert all(0 <= i["link"] < len(cc["records"]) for alternatives in r.get("inputs", []) for i in alternatives)
            assert all(0 <= x["layer"] < len(cc["layers"]) for x in r.get("layers", []))


def test_an_image_carries_the_cache_of_its_own_stage(pair, reg, ctx, tmp_path):
    image = reg.ref("inline:t")
    build(pair[0], reg, ctx, tmp_path / "a", "-t", image, "--push", "--cache-to", "type=inline")
    assert base64.b64decode(reg.config("inline", "t")["moby.buildkit.cache.v0"]).startswith(b"[{")
    second = build(pair[1], reg, ctx, tmp_path / "b", "--cache-from", "type=registry,ref=" + image)
    assert all_cached(second), second.text
    assert read(tmp_path / "a") == read(tmp_path / "b")


def test_layers_come_only_when_something_needs_them(pair, reg, ctx, tmp_path, fresh):
    ref = reg.ref("cache/lazy:c")
    build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=registry,mode=max,ref=" + ref)
    cluster = fresh(workers=1)
    held = blobs_of(cluster)
    # A result that stays in the cache, and one pushed to the registry that has its layers: nothing is moved.
    args = ["--build-arg", "BASE=" + reg.ref("base:latest"), "--cache-from", ref, "--provenance=false"]
    first = cluster.build("-o", "type=cacheonly", *args, ctx)
    assert all_cached(first), first.text
    cluster.build("-t", reg.ref("lazy:x"), "--push", *args, "--cache-to", "type=registry,mode=max,ref=" + reg.ref("cache/lazy:d"), ctx)
    assert blobs_of(cluster) == held
    assert reg.has("lazy", "x") and reg.manifest("cache/lazy", "c")["layers"] == reg.manifest("cache/lazy", "d")["layers"]
    # What was passed on is as good as what it was made from.
    third = fresh(workers=1).build("-o", "type=cacheonly", *[a.replace("lazy:c", "lazy:d") for a in args], ctx)
    assert all_cached(third), third.text
    # A step on top needs all below it, and nothing of the inner stage.
    with open(os.path.join(ctx, "Dockerfile"), "a") as f:
        f.write("RUN cat /v /w > /all\n")
    cluster.build("-o", "type=cacheonly", *args, ctx)
    layers = {x["digest"] for x in reg.manifest("lazy", "x")["layers"]}
    assert blobs_of(cluster) - held == layers


def test_min_holds_the_final_stage_and_max_all(pair, reg, ctx, tmp_path):
    for mode in ("min", "max"):
        build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=registry,mode=%s,ref=%s" % (mode, reg.ref("cache/modes:" + mode)))
    count = {m: len(reg.manifest("cache/modes", m)["layers"]) for m in ("min", "max")}
    base = len(reg.manifest("base")["layers"])
    # Of the inner stage's four the last one is what the final stage copies, to the byte: one blob.
    assert count["min"] == base + 3 and count["max"] == base + 6
    # A change above the copy leaves the copy a hit although the inner stage is not there.
    p = os.path.join(ctx, "Dockerfile")
    with open(p) as f:
        text = f.read()
    with open(p, "w") as f:
        f.write(text.replace("WORKDIR /x", "WORKDIR /other"))
    r = build(pair[1], reg, ctx, tmp_path / "b", "--cache-from", reg.ref("cache/modes:min"))
    assert len(r.cached()) == 2 and any("COPY --from=inner" in n for n in r.cached()), r.text
    assert read(tmp_path / "a") == read(tmp_path / "b")


def test_a_folder_carries_the_cache(pair, reg, ctx, tmp_path):
    folder = tmp_path / "deep" / "cache"
    build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=local,mode=max,dest=%s" % folder)
    index = json.loads((folder / "index.json").read_text())
    assert [m["annotations"][REF] for m in index["manifests"]] == ["latest"]
    for b in (folder / "blobs/sha256").iterdir():
        assert digest(b.read_bytes()) == "sha256:" + b.name
    shutil.copytree(folder, tmp_path / "elsewhere")
    second = build(pair[1], reg, ctx, tmp_path / "b", "--cache-from", "type=local,src=%s" % (tmp_path / "elsewhere"))
    assert all_cached(second), second.text
    assert read(tmp_path / "a") == read(tmp_path / "b")
    # The client has gone since; what its folder promised and nobody fetched is made again.
    again = build(pair[1], reg, ctx, tmp_path / "c", "--target", "inner", check=False)
    assert again.rc == 0, again.text


def test_a_folder_gets_only_what_it_lacks_and_keeps_other_tags(pair, reg, ctx, tmp_path):
    folder = tmp_path / "cache"
    build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=local,dest=%s,tag=one" % folder)
    before = {b.name: b.stat().st_ino for b in (folder / "blobs/sha256").iterdir()}
    build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=local,mode=max,dest=%s,tag=two" % folder)
    after = {b.name: b.stat().st_ino for b in (folder / "blobs/sha256").iterdir()}
    layers = [n for n in before if after[n] == before[n]]
    assert len(layers) >= len(before) - 2 and len(after) > len(before)
    assert {m["annotations"][REF] for m in json.loads((folder / "index.json").read_text())["manifests"]} == {"one", "two"}
    r = build(pair[1], reg, ctx, tmp_path / "b", "--cache-from", "type=local,src=%s,tag=two" % folder)
    assert all_cached(r), r.text


def test_several_caches_are_written_and_read_in_one_build(pair, reg, ctx, tmp_path):
    folder = tmp_path / "cache"
    build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=local,mode=max,dest=%s" % folder, "--cache-to",
          "type=registry,mode=max,ref=" + reg.ref("cache/several:c"), "--cache-to", "type=inline", "-t", reg.ref("several:i"), "--push")
    # Those that are not there are told of, and that is all.
    r = build(pair[1], reg, ctx, tmp_path / "b", "--cache-from", reg.ref("cache/none:x"), "--cache-from", "type=local,src=%s" % (tmp_path / "none"),
              "--cache-from", reg.ref("several:i"), "--cache-from", "type=local,src=%s" % folder)
    assert all_cached(r), r.text
    assert "not found" in r.text and "local cache import at" in r.text
    assert read(tmp_path / "a") == read(tmp_path / "b")


def test_what_the_cache_promised_and_has_no_more_is_made_again(pair, reg, ctx, tmp_path, fresh):
    ref = reg.ref("cache/vanish:c")
    build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=registry,mode=max,ref=" + ref)
    own = Registry(tmp_path / "reg2")
    try:
        own.start()
        copy_without_layers(reg, own, "cache/vanish", "c")
        cluster = fresh(workers=2)
        r = build(cluster, reg, ctx, tmp_path / "b", "--cache-from", own.ref("cache/vanish:c"), check=False)
        assert r.rc == 0, r.text
        assert read(tmp_path / "a") != read(tmp_path / "b")
        # A push of what was not fetched yet finds out no earlier than that.
        cluster = fresh(workers=2)
        r = cluster.build("--build-arg", "BASE=" + reg.ref("base:latest"), "--cache-from", own.ref("cache/vanish:c"), "-t", reg.ref("vanish:x"),
                          "--push", ctx, check=False)
        assert r.rc == 0 and reg.has("vanish", "x"), r.text
    finally:
        own.stop()
    # The whole registry is gone.
    cluster = fresh(workers=1)
    r = build(cluster, reg, ctx, tmp_path / "c", "--cache-from", own.ref("cache/vanish:c"), check=False)
    assert r.rc == 0 and "is not used" in r.text, r.text


def copy_without_layers(reg, to, repo, tag):
    """The manifest and the keys of a cache; its layers are uploaded and then removed from the store."""
    m = reg.manifest(repo, tag)
    for d in m["layers"] + [m["config"]]:
        put(to, repo, reg.get(repo, "blobs", d["digest"]))
    text = reg.get(repo, "manifests", tag)
    put_manifest(to, repo, tag, text, m["mediaType"])
    for d in m["layers"]:
        hexa = d["digest"].split(":")[1]
        shutil.rmtree(os.path.join(to.folder, "data/docker/registry/v2/repositories", repo, "_layers/sha256", hexa))
        shutil.rmtree(os.path.join(to.folder, "data/docker/registry/v2/blobs/sha256", hexa[:2], hexa))


def put(reg, repo, data):
    base = "http://" + reg.addr
    with urllib.request.urlopen(urllib.request.Request("%s/v2/%s/blobs/uploads/" % (base, repo), data=b"", method="POST")) as r:
        where = r.headers["Location"]
    where = (where if where.startswith("http") else base + where)
    where += ("&" if "?" in where else "?") + "digest=" + digest(data)
    urllib.request.urlopen(urllib.request.Request(where, data=data, method="PUT", headers={"Content-Type": "application/octet-stream"})).close()


def put_manifest(reg, repo, tag, text, kind):
    urllib.request.urlopen(urllib.request.Request("http://%s/v2/%s/manifests/%s" % (reg.addr, repo, tag), data=text, method="PUT",
                                                  headers={"Content-Type": kind})).close()


def test_hostile_caches_are_a_warning(pair, reg, ctx, tmp_path):
    d = "sha256:" + "1" * 64
    bad = {
        "circle": {"layers": [{"blob": d, "parent": 1}, {"blob": d}], "records": []},
        "range": {"layers": [], "records": [{"digest": d, "layers": [{"layer": 5}]}]},
        "kind": {"layers": "x"},
        "digest": {"layers": [{"blob": "../../etc/passwd", "parent": -1}]},
    }
    args = []
    for name, doc in bad.items():
        text = json.dumps(doc).encode()
        put(reg, "hostile", text)
        m = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": digest(text), "size": len(text)}, "layers": []}
        put_manifest(reg, "hostile", name, json.dumps(m).encode(), MANIFEST)
        args += ["--cache-from", reg.ref("hostile:" + name)]
    # A configuration that claims to be larger than any is not fetched.
    m["config"]["size"] = 1 << 40
    put_manifest(reg, "hostile", "huge", json.dumps(m).encode(), MANIFEST)
    r = build(pair[1], reg, ctx, tmp_path / "a", *args, "--cache-from", reg.ref("hostile:huge"), "--cache-from", reg.ref("base:latest"))
    assert sum(l.startswith(" - cache from ") and "is not used" in l for l in r.text.splitlines()) == 6, r.text
    assert "holds no cache" in r.text


def test_the_caches_of_a_build_are_bounded_together(pair, reg, ctx, tmp_path):
    layer = {"blob": "sha256:" + "1" * 64, "parent": -1, "annotations": {"mediaType": GZIP, "diffID": "sha256:" + "2" * 64, "size": 1}}
    text = json.dumps({"layers": [layer], "records": [{"layers": [{"layer": 0}], "digest": digest(b"%d" % i)} for i in range(110000)]}).encode()
    put(reg, "many", text)
    m = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": digest(text), "size": len(text)}, "layers": []}
    args = []
    for tag in "ab":
        put_manifest(reg, "many", tag, json.dumps(m).encode(), MANIFEST)
        args += ["--cache-from", reg.ref("many:" + tag)]
    r = build(pair[1], reg, ctx, tmp_path / "a", *args)
    refused = [l for l in r.text.splitlines() if l.startswith(" - cache from ")]
    assert len(refused) == 1 and "the caches of one build hold more than 200000 records" in refused[0], r.text


def test_layers_of_links_and_changed_times_are_the_same_in_both_clusters(pair, reg, tmp_path):
    """What is packed anew from an imported layer is what the cluster that made it packs."""
    ctx = context(tmp_path / "ctx", {"Dockerfile": "ARG BASE\nFROM ${BASE}\nRUN cat /proc/sys/kernel/random/uuid > /w\nCOPY --link f /d/f\nCOPY f /g\n", "f": "link\n"})
    ref = reg.ref("cache/link:c")

    def push(cluster, tag, *args):
        return cluster.build("--build-arg", "BASE=" + reg.ref("base:latest"), "--build-arg", "SOURCE_DATE_EPOCH=1000000000", "--provenance=false",
                             "-o", "type=image,push=true,rewrite-timestamp=true,name=" + reg.ref("rewritten:" + tag), *args, ctx)
    push(pair[0], "a", "--cache-to", "type=registry,mode=max,ref=" + ref)
    assert all_cached(push(pair[1], "b", "--cache-from", ref))
    assert reg.manifest("rewritten", "a") == reg.manifest("rewritten", "b")
    cc = json.loads(reg.get("cache/link", "blobs", reg.manifest("cache/link", "c")["config"]["digest"]))
    assert [x["annotations"]["bxc.below.v1"] for x in cc["layers"] if "bxc.below.v1" in x["annotations"]] == [0]


def test_layers_that_are_not_what_the_cache_says_are_made_again(pair, reg, ctx, tmp_path, fresh):
    ref = reg.ref("cache/liar:c")
    build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=registry,mode=max,ref=" + ref)
    m = reg.manifest("cache/liar", "c")
    cc = json.loads(reg.get("cache/liar", "blobs", m["config"]["digest"]))
    own = [x for x in cc["layers"] if not x["annotations"]["createdAt"].startswith("0001")]
    for n, change in enumerate((lambda a: a.update(diffID="sha256:" + "2" * 64), lambda a: a.update(size=a["size"] - 1),
                                lambda a: a.update(mediaType=GZIP + "x"))):
        for layer in own:
            change(layer["annotations"])
        text = json.dumps(cc).encode()
        put(reg, "cache/liar", text)
        m["config"].update(digest=digest(text), size=len(text))
        put_manifest(reg, "cache/liar", "bad%d" % n, json.dumps(m).encode(), MANIFEST)
        # Needed by a step, not by an output.
        more = context(tmp_path / ("more%d" % n), {"Dockerfile": open(os.path.join(ctx, "Dockerfile")).read() + "RUN cat /v /w > /all\n",
                                                 "f": open(os.path.join(ctx, "f")).read()})
        cluster = fresh(workers=1)
        r = build(cluster, reg, more, tmp_path / ("b%d" % n), "--cache-from", reg.ref("cache/liar:bad%d" % n), check=False)
        assert r.rc == 0, r.text
        assert read(tmp_path / ("b%d" % n)) != read(tmp_path / "a")
        assert (tmp_path / ("b%d" % n) / "all").read_text() == "".join(read(tmp_path / ("b%d" % n)))


def test_an_export_that_fails_ends_the_build_unless_told_otherwise(pair, reg, ctx, tmp_path):
    nowhere = "127.0.0.1:1/x:y"
    r = build(pair[0], reg, ctx, tmp_path / "a", "--cache-to", "type=registry,ref=" + nowhere, check=False)
    r.fails(1, nowhere)
    assert (tmp_path / "a" / "v").exists()
    r = build(pair[0], reg, ctx, tmp_path / "b", "--cache-to", "type=registry,ignore-error=true,ref=" + nowhere)
    assert "exporting cache to registry failed" in r.text
    r = build(pair[0], reg, ctx, tmp_path / "b", "--cache-to", "type=registry,ref=x", "--cache-to", "type=registry,ref=x", check=False)
    r.fails(1, "duplicate cache exports")
    r = build(pair[0], reg, ctx, tmp_path / "b", "--cache-to", "type=registry,ref=x,oci-mediatypes=false,image-manifest=true", check=False)
    r.fails(1, "oci-mediatypes")
    r = build(pair[0], reg, ctx, tmp_path / "b", "--cache-to", "type=nfs,path=x", check=False)
    r.fails(1, 'unknown cache exporter: "nfs"')


def test_results_that_ignored_the_cache_do_not_meet_those_of_another_cluster(pair, reg, ctx, tmp_path):
    for i, c in enumerate(pair):
        build(c, reg, ctx, tmp_path / ("n%d" % i), "--no-cache", "--cache-to", "type=registry,mode=max,ref=" + reg.ref("cache/fresh:%d" % i))
    r = build(pair[1], reg, ctx, tmp_path / "x", "--cache-from", reg.ref("cache/fresh:0"))
    assert read(tmp_path / "x") == read(tmp_path / "n1"), r.text


@pytest.mark.parametrize("kind", ["registry", "inline"])
def test_the_cache_of_every_platform_is_kept(pair, reg, tmp_path, kind):
    ctx = context(tmp_path / "multi", {
        "Dockerfile": "FROM scratch AS inner\nARG TARGETARCH\nCOPY ${TARGETARCH} /%s\nFROM scratch\nLABEL k=%s\nARG TARGETARCH\n"
                      "COPY --from=inner / /in\nCOPY ${TARGETARCH} /own\nWORKDIR /x\n" % (kind, kind), "amd64": "a" + kind, "arm64": "b" + kind})
    image = reg.ref("every-%s:x" % kind)
    ref, to = (image, "type=inline") if kind == "inline" else (reg.ref("cache/every:c"), "type=registry,mode=max,ref=" + reg.ref("cache/every:c"))
    args = ["--platform", "linux/amd64,linux/arm64", "--provenance=false", "--push"]
    first = pair[0].build(*args, "-t", image, "--cache-to", to, ctx)
    assert not first.cached()
    second = pair[1].build(*args, "-t", reg.ref("every-%s:y" % kind), "--cache-from", ref, "--cache-to", to.replace("every:c", "every:d"), ctx)
    for platform in ("linux/amd64", "linux/arm64"):
        for step in ("COPY --from=inner", "WORKDIR"):
            assert any(platform in n and step in n for n in second.cached()), second.text
    # The image is the same, but for the keys that an inline cache tells of.
    images = [[json.loads(reg.get("every-" + kind, "manifests", m["digest"])) for m in reg.document("every-" + kind, t)["manifests"]] for t in "xy"]
    assert [m["layers"] for m in images[0]] == [m["layers"] for m in images[1]]
    assert kind == "inline" or images[0] == images[1]


def test_a_cache_without_steps_is_not_written(pair, reg, tmp_path):
    plain = context(tmp_path / "plain", {"Dockerfile": "FROM %s\nENV a=b\n" % reg.ref("base:latest")})
    r = pair[0].build("--cache-to", "type=registry,ref=" + reg.ref("cache/empty:c"), "-o", "type=cacheonly", plain)
    assert "skipping cache export for empty result" in r.text
    assert not reg.has("cache/empty", "c")
