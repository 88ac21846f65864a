"""Child processes of tests: started with a pipe that tells when they are ready, always reaped."""
import glob
import os
import select
import signal
import subprocess
import time

TIMEOUT = 60


def build_dir():
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.environ.get("BXC_BUILD_DIR", os.path.join(top, "build-test"))


def program(name):
    where = {"bxc": "client/main", "bxc-coordinator": "coordinator/main", "bxc-worker": "worker/main", "bxc-exec": "worker/helper"}
    return os.path.join(build_dir(), where[name], name)


def path_env(extra=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BXC_", "BUILDX_", "BUILDKIT_", "SOURCE_DATE_EPOCH"))}
    dirs = [os.path.dirname(program(p)) for p in ("bxc", "bxc-coordinator", "bxc-worker", "bxc-exec")]
    env["PATH"] = ":".join(dirs) + ":" + env["PATH"]
    env.update(extra or {})
    return env


def inside(netns, argv):
    """The command line that runs `argv` in a network namespace; None: in this one."""
    return (["nsenter", "--net=/run/netns/" + netns] if netns else []) + argv


class Daemon:
    """A program that writes one line to --ready-fd."""

    def __init__(self, argv, log, netns=None):
        self.argv, self.log, self.netns = argv, log, netns
        self.p = None
        self.line = None

    def start(self):
        r, w = os.pipe()
        argv = inside(self.netns, self.argv + ["--ready-fd", str(w)])
        with open(self.log, "ab") as log:
            self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[w],
                                      start_new_session=True, env=path_env())
        os.close(w)
        ready, _, _ = select.select([r], [], [], TIMEOUT)
        self.line = os.read(r, 4096).decode().strip() if ready else ""
        os.close(r)
        if not self.line:
            self.kill()
            raise AssertionError("%s did not become ready:\n%s" % (self.argv[0], tail(self.log)))
        return self

    def kill(self, sig=signal.SIGKILL):
        if self.p and self.p.poll() is None:
            os.kill(self.p.pid, sig)
        if self.p:
            self.p.wait(TIMEOUT)

    def stop(self):
        self.kill(signal.SIGTERM)


def fsck(name, state):
    """Exit code and output of a look at what a program that does not run has kept."""
    p = subprocess.run([program(name), "fsck", "--state-dir", state], capture_output=True, text=True, env=path_env())
    return p.returncode, p.stdout, p.stderr


def mounts_below(folder):
    with open("/proc/self/mountinfo") as f:
        return [line for line in f if folder in line]


def groups_of(state):
    """Control groups of the worker with this state folder, in any hierarchy."""
    st = os.stat(state)
    return glob.glob("/sys/fs/cgroup/**/bxc/*-%x-%x" % (st.st_dev, st.st_ino), recursive=True)


def remove_groups(groups):
    for top in groups:
        for folder, _, _ in os.walk(top, topdown=False):
            os.rmdir(folder)


def tail(path, n=40):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-n:])
    except OSError as e:
        return str(e)


def wait_for(what, condition, timeout=TIMEOUT):
    """Polls a condition that has no event to wait for."""
    end = time.monotonic() + timeout
    step = select.poll()
    while time.monotonic() < end:
        v = condition()
        if v:
            return v
        step.poll(20)
    raise AssertionError("did not happen within %d s: %s" % (timeout, what))
