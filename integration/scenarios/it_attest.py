"""What is stated about images: provenance beside them, and in files."""
import json
import tarfile

from harness import oci

SLSA = "https://slsa.dev/provenance/v1"


def statements(reg, repo, ref):
    """The index, the image's descriptor, and the statements about it: by the digests that lead to them."""
    index = reg.document(repo, ref)
    image, attest = index["manifests"]
    assert attest["annotations"] == {"vnd.docker.reference.digest": image["digest"], "vnd.docker.reference.type": "attestation-manifest"}
    assert attest["platform"] == {"architecture": "unknown", "os": "unknown"}
    data = reg.get(repo, "manifests", attest["digest"])
    assert oci.digest(data) == attest["digest"]
    manifest = json.loads(data)
    blobs = [reg.get(repo, "blobs", d["digest"]) for d in manifest["layers"]]
    assert [oci.digest(b) for b in blobs] == [d["digest"] for d in manifest["layers"]]
    return image, manifest, [json.loads(b) for b in blobs]


def test_a_pushed_image_tells_how_it_was_made(two, reg, ctx):
    """10.2.30 Attestations"""
    c = ctx("FROM %s\nARG TOKEN\nRUN echo $TOKEN > /t\n" % reg.ref("base:latest"))
    two.build("--push", "-t", reg.ref("attest:v1"), "--build-arg", "TOKEN=hidden", c)
    image, manifest, (s,) = statements(reg, "attest", "v1")
    assert manifest["artifactType"] == "application/vnd.docker.attestation.manifest.v1+json"
    assert manifest["subject"]["digest"] == image["digest"]
    assert manifest["layers"][0]["annotations"] == {"in-toto.io/predicate-type": SLSA}
    assert s["predicateType"] == SLSA
    assert s["subject"] == [{"name": "pkg:docker/%s@v1?platform=linux%%2F%s" % (reg.ref("attest"), image["platform"]["architecture"]),
                             "digest": {"sha256": image["digest"].split(":")[1]}}]
    (base,) = s["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert base["uri"].startswith("pkg:docker/%s@latest" % reg.ref("base"))
    assert base["digest"]["sha256"] == oci.digest(reg.get("base", "manifests", "latest")).split(":")[1]
    assert "hidden" not in json.dumps(s), "mode=min tells no argument"


def test_all_steps_are_told_when_asked_for(two, reg, ctx):
    c = ctx("FROM %s\nARG A\nRUN echo $A > /told\n" % reg.ref("base:latest"))
    two.build("--push", "-t", reg.ref("attest:max"), "--build-arg", "A=told", "--provenance=mode=max", c)
    _, _, (s,) = statements(reg, "attest", "max")
    definition = s["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["request"]["args"]["build-arg:A"] == "told"
    steps = definition["internalParameters"]["buildConfig"]["llbDefinition"]
    assert any("echo $A > /told" in a for x in steps for a in x["op"]["Op"].get("exec", {}).get("meta", {}).get("args", []))


def test_statements_can_be_an_image_manifest_or_left_out(two, reg, ctx):
    c = ctx("FROM %s\n" % reg.ref("base:latest"))
    two.build("-o", "type=image,push=true,oci-artifact=false,name=" + reg.ref("attest:plain"), c)
    _, manifest, _ = statements(reg, "attest", "plain")
    assert "artifactType" not in manifest and "subject" not in manifest
    config = json.loads(reg.get("attest", "blobs", manifest["config"]["digest"]))
    assert config["rootfs"]["diff_ids"] == [d["digest"] for d in manifest["layers"]]
    two.build("--push", "-t", reg.ref("attest:none"), "--provenance=false", c)
    assert "manifests" not in reg.document("attest", "none")


def test_files_get_a_statement_only_when_asked_for(two, ctx, tmp_path):
    c = ctx("FROM scratch\nCOPY f /d/f\n", f="hello\n")
    two.build("-o", str(tmp_path / "plain"), "-o", "type=oci,dest=%s" % (tmp_path / "plain.tar"), c)
    assert [p.name for p in (tmp_path / "plain").iterdir()] == ["d"]
    with tarfile.open(tmp_path / "plain.tar") as t:
        assert json.loads(t.extractfile("index.json").read())["manifests"][0]["mediaType"].endswith("manifest.v1+json")
    two.build("--provenance=true", "-o", str(tmp_path / "told"), "-o", "type=oci,dest=%s" % (tmp_path / "told.tar"), c)
    s = json.loads((tmp_path / "told" / "provenance.json").read_text())
    assert s["subject"] == [{"name": "d/f", "digest": {"sha256": oci.digest(b"hello\n").split(":")[1]}}]
    with tarfile.open(tmp_path / "told.tar") as t:
        assert json.loads(t.extractfile("index.json").read())["manifests"][0]["mediaType"].endswith("index.v1+json")


def test_statements_that_cannot_be_made_are_refused(two, ctx, tmp_path):
    c = ctx("FROM scratch\nCOPY f /f\n", f="x")
    two.build("--provenance=mode=most", c, check=False).fails(1, "attests.provenance: invalid mode 'most'")
    two.build("--sbom=true", c, check=False).fails(2, "attestations of type 'sbom' are not supported")
    two.build("--attest", "mode=max", c, check=False).fails(2, "attestation type not specified")
    two.build("--provenance=true", "-o", "type=docker,dest=%s" % (tmp_path / "d.tar"), c, check=False).fails(
        1, "docker exporter does not currently support exporting manifest lists")
