"""A look at what coordinator and workers keep, while they do not run."""
import glob
import os

from harness.procs import fsck


def blobs(folder):
    return sorted(glob.glob(os.path.join(folder, "blobs", "sha256", "*", "*")))


def spoil(path):
    with open(path, "r+b") as f:
        f.seek(-1, 2)
        last = f.read(1)
        f.seek(-1, 2)
        f.write(bytes([last[0] ^ 1]))


def test_what_is_damaged_is_found_and_made_again(fresh, reg, ctx, tmp_path):
    c = fresh(workers=1)
    d = ctx("FROM %s\nCOPY f /f\nRUN head -c 100000 /dev/urandom > /r\n" % reg.ref("base:latest"), f="context\n" * 1000)
    c.build("-t", reg.ref("fsck:v1"), "--push", d)
    worker, coordinator = c.states["worker-1"], c.path("coordinator")
    # Not while they run.
    for program, state in (("bxc-worker", worker), ("bxc-coordinator", coordinator)):
        rc, _, err = fsck(program, state)
        assert rc == 1 and "first" in err, err
    c.workers["worker-1"].kill()
    c.coordinator.kill()
    rc, out, err = fsck("bxc-worker", worker)
    assert rc == 0 and " 0 damaged; " in out and out.endswith("layers: 0 damaged\n"), out + err
    rc, out, err = fsck("bxc-coordinator", coordinator)
    assert rc == 0 and out.startswith("store: 0 problems; "), out + err
    # One byte of each kind of blob.
    for state, program in ((os.path.join(worker, "content"), "bxc-worker"), (coordinator, "bxc-coordinator")):
        bad = blobs(state)
        assert bad
        for b in bad:
            spoil(b)
        rc, out, err = fsck(program, worker if program == "bxc-worker" else coordinator)
        assert rc == 1 and out.count("damaged: blob sha256:") == len(bad), out + err
        assert not blobs(state)
        assert fsck(program, worker if program == "bxc-worker" else coordinator)[0] == 0
    c.start_coordinator()
    c.bxc("rm", "cluster", check=True)
    c.bxc("create", "--name", "cluster", "--token-file", c.path("coordinator", "client.token"), "http://" + c.http, check=True)
    c.add_worker("worker-1", worker)
    out = tmp_path / "o"
    c.build("-o", "type=local,dest=%s" % out, d)
    assert (out / "f").read_text() == "context\n" * 1000 and os.path.getsize(out / "r") == 100000
    c.build("-t", reg.ref("fsck:v2"), "--push", d)
