import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness import cluster, registry  # noqa: E402


@pytest.fixture(scope="session")
def reg(tmp_path_factory):
    """A real docker-registry with a small base image."""
    r = registry.Registry(tmp_path_factory.mktemp("registry"))
    try:
        r.start()
        r.make_base("base:latest")
        yield r
    finally:
        r.stop()


@pytest.fixture(scope="module")
def two(reg, tmp_path_factory):
    """A coordinator and two workers, shared by the tests of one file."""
    c = cluster.Cluster(tmp_path_factory.mktemp("cluster"), workers=2)
    try:
        c.start()
        yield c
    finally:
        c.stop()


@pytest.fixture
def fresh(reg, tmp_path):
    """A cluster of its own for tests that break things: call it with the number of workers."""
    made = []

    def make(workers=2, **kw):
        c = cluster.Cluster(tmp_path / ("cluster%d" % len(made)), workers=workers, **kw)
        made.append(c)
        c.start()
        return c
    try:
        yield make
    finally:
        for c in made:
            c.stop()


@pytest.fixture
def ctx(tmp_path):
    """Makes a context of a Dockerfile and other files."""
    return lambda dockerfile, **files: cluster.context(tmp_path / "ctx", dict(files, Dockerfile=dockerfile))
