"""What a user does wrong: one clear error, nothing half done."""
import re

from harness import cluster, registry
from harness.cluster import context


def told(two, tmp_path, dockerfile):
    """What the client says of a Dockerfile that fails."""
    ctx = context(tmp_path / "ctx", {"Dockerfile": dockerfile})
    r = two.build("-o", "type=local,dest=%s" % (tmp_path / "o"), ctx, check=False)
    r.fails(1)
    return r.text


def test_unreachable_coordinator_is_exit_3_and_named(two, tmp_path):
    port = registry.free_port()
    r = two.bxc("create", "--name", "gone", "http://127.0.0.1:%d" % port)
    assert r.rc == 3 and "127.0.0.1:%d" % port in r.err


def test_wrong_token_is_exit_4(two, tmp_path):
    (tmp_path / "t").write_text("not-the-token-of-this-cluster\n")
    r = two.bxc("create", "--name", "x", "--token-file", tmp_path / "t", "http://" + two.http)
    assert r.rc == 4 and "token" in r.err


def test_unknown_builder(two, tmp_path):
    r = two.bxc("--builder=nope", "build", str(tmp_path))
    assert r.rc == 1 and 'no builder "nope" found' in r.err


def test_missing_dockerfile(two, tmp_path):
    r = two.build(str(tmp_path), check=False)
    assert r.rc == 1 and "failed to read dockerfile: open Dockerfile: no such file or directory" in r.err


def test_missing_copy_source_shows_the_line(two, tmp_path):
    text = told(two, tmp_path, "FROM scratch\nCOPY missing /x\n")
    assert '"/missing": not found' in text and "Dockerfile:2" in text and "   2 | >>> COPY missing /x" in text
    assert not (tmp_path / "o").exists()


def test_unknown_image_and_registry_down(two, reg, tmp_path):
    text = told(two, tmp_path, "FROM %s\n" % reg.ref("base:no-such-tag"))
    assert "base:no-such-tag" in text and "not found" in text and "Dockerfile:1" in text
    port = registry.free_port()
    text = told(two, tmp_path, "FROM 127.0.0.1:%d/x\n" % port)
    assert "127.0.0.1:%d" % port in text and "cannot be reached" in text


def test_unknown_and_unsupported_flags_are_usage_errors(two, tmp_path):
    r = two.build("--no-cahce", str(tmp_path), check=False)
    assert r.rc == 2 and "--no-cache" in r.err and len(r.err.strip().splitlines()) <= 2
    r = two.build("--policy", "a", str(tmp_path), check=False)
    assert r.rc == 2 and "--policy is not supported" in r.err


def test_unknown_instruction_is_named_with_a_suggestion(two, tmp_path):
    text = told(two, tmp_path, "FROM scratch\n\nCPOY a b\n")
    assert "Dockerfile:3" in text and "CPOY" in text and "COPY" in text


def test_unsupported_instruction_form_is_named(two, reg, tmp_path):
    text = told(two, tmp_path, "FROM %s\nRUN --device=vendor.com/a=b true\n" % reg.ref("base:latest"))
    assert "Dockerfile:2" in text and 'device "vendor.com/a=b" is requested by the build but no worker offers devices' in text


def test_failing_step_shows_log_excerpt_and_exit_code(two, reg, tmp_path):
    text = told(two, tmp_path, "FROM %s\nRUN echo before; exit 3\n" % reg.ref("base:latest"))
    assert 'process "/bin/sh -c echo before; exit 3" did not complete successfully: exit code: 3' in text
    assert "   2 | >>> RUN echo before; exit 3" in text and " > [2/2] RUN echo before; exit 3:" in text
    assert text.rstrip().splitlines()[-1].startswith("ERROR: failed to build")


def test_coordinator_that_went_away_is_named(tmp_path, ctx):
    there = cluster.Cluster(tmp_path / "gone", workers=0)
    try:
        there.start()
    finally:
        there.stop()
    there.build(ctx("FROM scratch\n"), check=False).fails(3, "builder 'cluster'")
    there.bxc("inspect", "cluster").fails(3, there.http)


def test_token_that_no_longer_holds(fresh, ctx):
    c = fresh(workers=0)
    channel = c.api("/v1/info")["channel"][0]
    c.coordinator.stop()
    with open(c.path("coordinator", "client.token"), "w") as f:
        f.write("1" * 64 + "\n")
    c.start_coordinator(listen=c.http, channel=channel)
    c.build(ctx("FROM scratch\n"), check=False).fails(4, "token")


def test_command_lines_of_no_sense(two, ctx):
    c = ctx("FROM scratch\n")
    two.bxc("biuld", c).fails(2, "did you mean 'build'?")
    two.build(check=False).fails(2)
    two.build("-o", "type=local", c, check=False).fails(2, "dest is required")
    two.build("--push", c, check=False).fails(2, "tag is needed when pushing to registry")
    two.build("--platform", "l/i/n/u/x", c, check=False).fails(2, "--platform")


def test_unknown_stage_names_the_near_one(two, ctx):
    two.build("--target", "biuld", ctx("FROM scratch AS build\n"), check=False).fails(
        1, 'target stage "biuld" could not be found', "did you mean build?")


def test_error_of_a_step_is_kept_with_its_details(two, reg, ctx):
    r = two.build(ctx("FROM %s\nENV a=b\nRUN echo before; echo of-stderr >&2; exit 42\n" % reg.ref("base:latest")), check=False)
    r.fails(1, "3 | >>> RUN echo before", "2 |     ENV a=b")
    tail = re.search(r"^------\n > (.*):\n(.*?)^------$", r.text, re.M | re.S)
    assert tail and "RUN echo before" in tail.group(1), r.text
    assert "before" in tail.group(2) and "of-stderr" in tail.group(2)
    b = two.builds()[0]
    assert b["status"] == "failed"
    details = two.api("/v1/builds/" + b["id"])["error"]["details"]
    assert details["exit_code"] == "42" and details["line"] == "3"


def test_run_of_what_is_not_there(two, reg, ctx):
    two.build(ctx("FROM %s\nRUN [\"/no/such/program\"]\n" % reg.ref("base:latest")), check=False).fails(1, "/no/such/program", "2 | >>> RUN")


def test_platform_that_nobody_has(two, reg, ctx):
    two.build("--platform", "linux/s390x", ctx("FROM %s\nRUN true\n" % reg.ref("base:latest")), check=False).fails(1, "linux/s390x")
