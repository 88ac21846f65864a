"""Build checks and questions about a Dockerfile: --check, --call, warnings of builds."""
import base64
import json

from harness.cluster import context


def call(two, method, ctx, *flags):
    r = two.build("--call=%s,format=json" % method, *flags, ctx, check=False)
    return r, json.loads(r.out)


def test_a_build_shows_its_warnings_and_goes_on(two, ctx):
    r = two.build("-o", "type=cacheonly", ctx("FROM scratch\nCOPY f /\nCMD hi\n", f="x"))
    text = "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)"
    assert "WARN: " + text in r.err
    assert "\n 1 warning found (use --debug to expand):\n - %s\n" % text in r.err
    assert "More info" not in r.err
    more = two.build("--debug", "-o", "type=cacheonly", ctx("FROM scratch\nCOPY f /\nCMD hi\n", f="x"))
    assert "More info: https://docs.docker.com/go/dockerfile/rule/json-args-recommended/" in more.err and ">>> CMD hi" in more.err


def test_warnings_are_kept_with_the_metadata_when_asked_for(two, tmp_path, ctx):
    where = ctx("FROM scratch\nCOPY f /\nCMD hi\n", f="x")
    for asked in None, {"BUILDX_METADATA_WARNINGS": "1"}:
        two.build("-o", "type=cacheonly", "--metadata-file", tmp_path / "m", where, env=asked)
        got = json.loads((tmp_path / "m").read_text()).get("buildx.build.warnings")
        assert (got is not None) == (asked is not None)
    assert base64.b64decode(got[0]["short"]).startswith(b"JSONArgsRecommended: ") and got[0]["range"][0]["start"]["line"] == 3


def test_error_true_fails_on_what_is_not_skipped(two, ctx):
    head = "# check=skip=JSONArgsRecommended;error=true\n"
    two.build("-o", "type=cacheonly", ctx(head + "FROM scratch\nCOPY f /\nCMD hi\n", f="x"))
    r = two.build("-o", "type=cacheonly", ctx(head + "FROM scratch\nWORKDIR rel\nENV a b\nCMD hi\n", f="x"), check=False)
    r.fails(1, "lint violation found for rules: WorkdirRelativePath, LegacyKeyValueFormat", "WorkdirRelativePath: ")
    two.build("-o", "type=cacheonly", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all",
              ctx(head + "FROM scratch\nWORKDIR rel\n", f="x"))


def test_a_comment_turns_a_rule_off_for_one_instruction(two, ctx):
    r, doc = call(two, "check", ctx("FROM scratch\n# check=skip=LegacyKeyValueFormat // needed\nENV a b\nENV c d\n"))
    assert r.rc == 1 and [w["location"]["ranges"][0]["start"]["line"] for w in doc["warnings"]] == [4]


def test_warnings_come_before_an_error(two, ctx):
    for flags in ("-o", "type=cacheonly"), ("--check",):
        r = two.build(*flags, ctx("from scratch AS Bad\nFROM ${NOPE} AS x\nRUN y\n"), check=False)
        r.fails(1, "StageNameCasing", "should not be blank", "Dockerfile:2")


def test_a_check_of_what_cannot_be_read_tells_both(two, ctx):
    r, doc = call(two, "check", ctx("FROM scratch AS Bad\nMAINTAINER me\nCPOY a b\n"))
    assert r.rc == 1 and [w["ruleName"] for w in doc["warnings"]] == ["StageNameCasing", "MaintainerDeprecated"]
    assert "unknown instruction: CPOY (did you mean COPY?)" in doc["buildError"]["message"]
    assert doc["buildError"]["location"]["ranges"][0]["start"]["line"] == 3


def test_a_check_looks_at_every_stage_without_building(two, reg, ctx):
    text = "FROM %s AS unused\nCMD a\nFROM scratch AS last\nCOPY f /\n" % reg.ref("base:latest")
    r, doc = call(two, "check", ctx(text, f="x"))
    assert r.rc == 1 and [w["ruleName"] for w in doc["warnings"]] == ["JSONArgsRecommended"]
    assert base64.b64decode(doc["sources"][0]["data"]).decode() == text
    assert "COPY f /" not in r.err
    r, doc = call(two, "check", ctx(text, f="x"), "--target", "last")
    assert r.rc == 0 and doc["warnings"] == []
    ok = two.build("--check", ctx("FROM scratch\n"))
    assert ok.out == "Check complete, no warnings found.\n"


def test_a_base_that_is_not_there_is_an_error_of_the_check(two, reg, ctx):
    r, doc = call(two, "check", ctx("FROM %s AS Bad\n" % reg.ref("nothing:here")))
    assert r.rc == 1 and [w["ruleName"] for w in doc["warnings"]] == ["StageNameCasing"]
    assert "nothing:here" in doc["buildError"]["message"]


def test_a_source_that_is_ignored_is_told(two, tmp_path):
    files = {"Dockerfile": "FROM scratch\nCOPY gone.txt /\nCOPY kept /\n", "gone.txt": "x", "kept/a": "x", "kept/b": "x",
             ".dockerignore": "gone.txt\nkept\n!kept/a\n"}
    r, doc = call(two, "check", context(tmp_path / "c", files))
    assert [(w["ruleName"], w["detail"]) for w in doc["warnings"]] == [
        ("CopyIgnoredFile", 'Attempting to Copy file "gone.txt" that is excluded by .dockerignore')]


def test_outline_and_targets(two, ctx):
    c = ctx("ARG BASE=scratch\nARG UNUSED\n# one is the first\nFROM $BASE AS one\n# V of all\nARG V=1\nFROM one\nARG W\n")
    r, doc = call(two, "outline", c, "--build-arg", "W=w")
    assert r.rc == 0 and [(a["name"], a.get("value"), a.get("description")) for a in doc["args"]] == [
        ("BASE", "scratch", None), ("V", "1", "of all"), ("W", "w", None)]
    r, doc = call(two, "targets", c)
    assert [(t.get("name"), t.get("default", False), t.get("description"), t["base"]) for t in doc["targets"]] == [
        ("one", False, "is the first", "$BASE"), (None, True, None, "one")]
    text = two.build("--call=targets", c)
    assert text.out == "TARGET    DESCRIPTION\none       is the first\n(default) \n"


def test_other_frontends_are_refused_by_name(two, ctx):
    for first in "# syntax=ghcr.io/x/y:1", "// syntax=ghcr.io/x/y:1", "# syntax=docker/dockerfile:1.27":
        r = two.build("-o", "type=cacheonly", ctx(first + "\nFROM scratch\n"), check=False)
        r.fails(1, "Dockerfile:1", "docker/dockerfile up to 1.26 is built in")
    two.build("-o", "type=cacheonly", ctx("# syntax=docker/dockerfile:1-labs\nFROM scratch\nCOPY f /\n", f="x"))
