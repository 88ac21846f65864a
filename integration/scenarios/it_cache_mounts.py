"""Cache mounts on a cluster: one home for all builds, one user of a locked one, none of an earlier content with --no-cache."""
import os
import re
import threading

from harness import procs


def unique():
    return os.urandom(6).hex()


def said(r, text):
    return re.findall(r"^#\d+ [0-9.]+ (%s.*)$" % text, r.text, re.M)


def test_contents_stay_between_builds_on_a_cluster(two, reg, ctx):
    c = unique()
    for i in range(4):
        # Fillers take the place that the step would get by chance.
        d = ctx("FROM {0} AS filler\nRUN echo {1}-{2}\nFROM {0}\nCOPY --from=filler /etc/passwd /p\n"
                "RUN --mount=type=cache,target=/c,id={1} echo {2} >> /c/log; echo lines=$(wc -l < /c/log)\n".format(reg.ref("base:latest"), c, i))
        r = two.build("-o", "type=cacheonly", d)
        assert said(r, "lines=") == ["lines=%d" % (i + 1)], r.text


def test_shared_mount_of_two_builds_at_once(two, reg, ctx, tmp_path):
    c = unique()
    text = ("FROM {0}\nRUN --mount=type=cache,target=/c,id={1} touch /c/{2}; i=0; "
            "while [ ! -e /c/{3} ]; do i=$((i+1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done; echo met\n")
    results = {}

    def build(me, other):
        d = tmp_path / me
        os.makedirs(d)
        (d / "Dockerfile").write_text(text.format(reg.ref("base:latest"), c, me, other))
        results[me] = two.build("-o", "type=cacheonly", d, check=False)
    threads = [threading.Thread(target=build, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for r in results.values():
        assert r.rc == 0 and said(r, "met"), r.text


def test_locked_mount_has_one_user_in_the_cluster(two, reg, ctx):
    c = unique()
    stages = "".join("FROM {0} AS s{2}\nRUN --mount=type=cache,target=/c,id={1},sharing=locked mkdir /c/busy && sleep 0.5 && rmdir /c/busy && echo {2} > /r\n"
                     .format(reg.ref("base:latest"), c, i) for i in range(4))
    d = ctx(stages + "FROM scratch\n" + "".join("COPY --from=s%d /r /r%d\n" % (i, i) for i in range(4)))
    two.build("-o", "type=cacheonly", d)


def test_no_cache_starts_with_empty_mounts(two, reg, ctx):
    c = unique()
    line = "RUN --mount=type=cache,target=/c,id=%s echo x >> /c/log; echo lines=$(wc -l < /c/log)" % c
    two.build("-o", "type=cacheonly", ctx("FROM %s\n%s # 1\n" % (reg.ref("base:latest"), line)))
    d = ctx("FROM %s\n%s # 2\n%s # 3\n" % (reg.ref("base:latest"), line, line))
    r = two.build("--no-cache", "-o", "type=cacheonly", d)
    # Emptied once for the build: its steps see each other's files.
    assert said(r, "lines=") == ["lines=1", "lines=2"], r.text
    r = two.build("-o", "type=cacheonly", ctx("FROM %s\n%s # 4\n" % (reg.ref("base:latest"), line)))
    assert said(r, "lines=") == ["lines=3"], r.text


def test_home_is_known_after_a_restart(fresh, reg, ctx):
    c = fresh(workers=2)
    text = "FROM %s\nRUN --mount=type=cache,target=/c,id=k echo %s >> /c/log; echo lines=$(wc -l < /c/log)\n"
    c.build("-o", "type=cacheonly", ctx(text % (reg.ref("base:latest"), 1)))
    home = [w for n, w in c.workers_of().items() if "type=cache" in n]
    channel, http = c.api("/v1/info")["channel"][0], c.http
    c.coordinator.kill()
    c.start_coordinator(listen=http, channel=channel)
    procs.wait_for("the workers are back", lambda: len(c.api("/v1/workers")["workers"]) == 2)
    r = c.build("-o", "type=cacheonly", ctx(text % (reg.ref("base:latest"), 2)))
    assert said(r, "lines=") == ["lines=2"], r.text
    assert [w for n, w in c.workers_of().items() if "type=cache" in n] == home


def test_a_mount_starts_from_a_stage(two, reg, ctx):
    c = unique()
    text = ("FROM {0} AS seed\nRUN mkdir /s && echo {1} > /s/f && chown -R 7:8 /s\nFROM {0}\n"
            "RUN --mount=type=cache,target=/c,id={1},from=seed,source=/s echo {2} >> /c/f; echo seen=$(stat -c %u:%g /c) $(wc -l < /c/f)\n"
            "RUN --mount=type=cache,target=/c,id={1} echo other={2} $(ls /c | wc -l)\n"
            "RUN --mount=type=cache,target=/c,id={1},from=seed,source=/s,mode=0701,uid=5 echo {2}; echo owned=$(stat -c %a:%u:%g /c) $(ls /c | wc -l)\n")
    for i in range(2):
        r = two.build("-o", "type=cacheonly", ctx(text.format(reg.ref("base:latest"), c, i)))
        # It starts from the stage once, is none of those that start empty; an owner or mode means a new folder, as in the reference.
        assert said(r, "seen=") == ["seen=7:8 %d" % (i + 2)], r.text
        assert said(r, "other=") == ["other=%d 0" % i]
        assert said(r, "owned=") == ["owned=701:5:0 0"]
    r = two.build("-o", "type=cacheonly", ctx("FROM {0} AS seed\nFROM {0}\nRUN --mount=type=cache,target=/c,from=seed,source=/none true\n".format(reg.ref("base:latest"))), check=False)
    r.fails(1, '"/none": not found', "Dockerfile:3")
