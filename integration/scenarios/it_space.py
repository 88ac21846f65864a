"""A worker keeps within its space, and what it gives up is built again."""
import os

from harness import procs


def layers(cluster, name="worker-1"):
    return os.listdir(os.path.join(cluster.states[name], "snapshots", "layers"))


def test_layers_go_and_are_built_again(fresh, reg, ctx, tmp_path):
    c = fresh(workers=1, worker_args=["--space-max-used", "1", "--space-keep", "3s", "--space-interval", "200ms"])
    d = ctx("FROM %s\nRUN head -c 3000000 /dev/urandom > /big\nRUN sleep 5; wc -c < /big > /size\n" % reg.ref("base:latest"))
    # What a running step reads, or was used just now, stays, however little may be kept.
    c.build("-o", "type=local,dest=%s" % (tmp_path / "o1"), d)
    assert (tmp_path / "o1" / "size").read_text() == "3000000\n"
    procs.wait_for("an empty worker", lambda: not layers(c))
    again = c.build("-o", "type=local,dest=%s" % (tmp_path / "o2"), d)
    assert not any("RUN" in n for n in again.cached()), again.text
    assert (tmp_path / "o2" / "size").read_text() == "3000000\n"


def test_within_the_limit_everything_stays(fresh, reg, ctx, tmp_path):
    c = fresh(workers=1, worker_args=["--space-max-used", "1g", "--space-min-free", "1", "--space-keep", "0s", "--space-interval", "100ms"])
    d = ctx("FROM %s\nRUN head -c 3000000 /dev/urandom > /big\nRUN sleep 1\n" % reg.ref("base:latest"))
    c.build("-o", "type=cacheonly", d)
    again = c.build("-o", "type=cacheonly", d)
    assert sum("RUN" in n for n in again.cached()) == 2, again.text
