"""Secrets and SSH agents: there for the step that asks, nowhere else."""
import os
import re
import shutil
import subprocess

import pytest

from harness.cluster import context

SECRET = "open-sesame-4711-xyzzy"


def leaks(two, *more):
    """Files of the cluster and of the client that hold the secret."""
    found = []
    for top in (two.folder,) + more:
        for folder, _, names in os.walk(str(top)):
            for n in names:
                p = os.path.join(folder, n)
                if os.path.isfile(p) and not os.path.islink(p):
                    with open(p, "rb") as f:
                        if SECRET.encode() in f.read():
                            found.append(p)
    return found


def test_a_secret_reaches_its_step_and_nothing_else(two, reg, tmp_path):
    (tmp_path / "s").write_text(SECRET + "\n")
    ctx = context(tmp_path / "ctx", {"Dockerfile":
                  "FROM %s\nRUN --mount=type=secret,id=tok,mode=0440,uid=7 --mount=type=secret,id=v,env=TOKEN,required "
                  "stat -c '%%a %%u' /run/secrets/tok > /r; wc -c < /run/secrets/tok >> /r; echo ${#TOKEN} >> /r; "
                  "echo said $TOKEN; cat /run/secrets/tok; cat /run/secrets/tok >&2\n"
                  "RUN ls -A /run/secrets >> /r 2>&1; echo \"[$TOKEN]\" >> /r\n" % reg.ref("base:latest")})
    r = two.build("--secret", "id=tok,src=%s" % (tmp_path / "s"), "--secret", "type=env,id=v,src=MY_TOKEN", "-t", reg.ref("secret:1"), "--push",
                  "-o", "type=local,dest=%s" % (tmp_path / "o"), ctx, env={"MY_TOKEN": SECRET})
    lines = (tmp_path / "o" / "r").read_text().splitlines()
    assert lines[:3] == ["440 7", "23", "22"] and lines[-1] == "[]"
    assert "said ****" in r.text and SECRET not in r.text
    assert leaks(two, reg.folder, tmp_path / "o") == []


@pytest.mark.parametrize("end", ["exit 3", "sleep 1000"])
def test_a_secret_leaks_neither_from_a_failed_step_nor_from_a_killed_worker(fresh, reg, tmp_path, end):
    c = fresh(workers=1)
    (tmp_path / "s").write_text(SECRET)
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN --mount=type=secret,id=tok,env=T --mount=type=secret,id=tok "
                                     "echo has $T; env | grep T=; cat /run/secrets/tok; %s\n" % (reg.ref("base:latest"), end)})
    p = c.popen("--secret", "id=tok,src=%s" % (tmp_path / "s"), ctx)
    if end == "sleep 1000":
        for line in p.stdout:
            if b"has ****" in line:
                break
        c.workers["worker-1"].kill()
        assert leaks(c) == []
        p.terminate()
    text = p.communicate(timeout=60)[0]
    assert SECRET.encode() not in text
    assert leaks(c) == []


def test_missing_secrets(two, reg, tmp_path):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN --mount=type=secret,id=no,required true\n" % reg.ref("base:latest")})
    two.build(ctx, check=False).fails(1, "secret no: not found", "Dockerfile:2")
    two.build("--secret", "id=no,src=/no/such/file", ctx, check=False).fails(1, "failed to stat /no/such/file")
    two.build("--secret", "src=x", ctx, check=False).fails(2, "secret missing ID")
    two.build("--secret", "id=a,colour=red", ctx, check=False).fails(2, "unexpected key 'colour'")
    (tmp_path / "big").write_bytes(b"x" * 512001)
    two.build("--secret", "id=no,src=%s" % (tmp_path / "big"), ctx, check=False).fails(2, "secret no too big. max size 500 KiB")


def test_the_value_of_a_secret_is_in_no_key(two, reg, tmp_path):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN --mount=type=secret,id=tok cat /run/secrets/tok > /r\n" % reg.ref("base:latest")})
    for value in ("first-value", "other-value"):
        (tmp_path / "s").write_text(value)
        r = two.build("--secret", "id=tok,src=%s" % (tmp_path / "s"), "-o", "type=local,dest=%s" % (tmp_path / "o"), ctx)
        assert (tmp_path / "o" / "r").read_text() == "first-value"
    assert len(r.cached()) == 2


def key(tmp_path, name):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)], check=True)
    return tmp_path / name


@pytest.fixture
def agent(tmp_path):
    """An ssh-agent of the user's own, with one key."""
    sock = str(tmp_path / "agent")
    p = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.PIPE)
    p.stdout.readline()
    subprocess.run(["ssh-add", "-q", str(key(tmp_path, "own"))], check=True, env=dict(os.environ, SSH_AUTH_SOCK=sock))
    yield sock
    p.terminate()
    p.communicate()


def openssh(folder):
    """The host's ssh-add and ssh-keygen with what they load, below a folder."""
    for prog in ("/usr/bin/ssh-add", "/usr/bin/ssh-keygen"):
        libs = subprocess.run(["ldd", prog], check=True, capture_output=True, text=True).stdout
        for path in [prog] + re.findall(r"(/\S+) \(0x", libs):
            to = os.path.join(folder, path.lstrip("/"))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy(os.path.realpath(path), to)


def test_keys_are_forwarded_for_reading_and_signing(two, reg, tmp_path):
    k1, k2 = key(tmp_path, "k1"), key(tmp_path, "k2")
    os.chmod(str(k1), 0o644)
    ctx = context(tmp_path / "ctx", {"k2.pub": (tmp_path / "k2.pub").read_text(), "Dockerfile":
                  "FROM %s\nCOPY root /\nCOPY k2.pub /\nRUN --mount=type=ssh,required --mount=type=ssh,id=two,mode=0606,gid=9 "
                  "ssh-add -l | cut -d' ' -f3 > /r; ssh-add -D; ssh-add -l | wc -l >> /r; "
                  "export SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1; ssh-add -l | wc -l >> /r; stat -c '%%a %%g' $SSH_AUTH_SOCK >> /r; "
                  "echo data | ssh-keygen -Y sign -n test -f /k2.pub > /sig\nRUN ls -A /run >> /r; echo \"[$SSH_AUTH_SOCK]\" >> /r\n"
                  % reg.ref("base:latest")})
    openssh(os.path.join(ctx, "root"))
    r = two.build("--ssh", "default=%s,%s" % (k1, k2), "--ssh", "two=%s" % k2, "-o", "type=local,dest=%s" % (tmp_path / "o"), ctx)
    assert "Failed to remove all identities." in r.text, r.text
    assert (tmp_path / "o" / "r").read_text().split() == ["k1", "k2", "2", "1", "606", "9", "[]"]
    signers = tmp_path / "signers"
    signers.write_text("me " + (tmp_path / "k2.pub").read_text())
    v = subprocess.run(["ssh-keygen", "-Y", "verify", "-n", "test", "-I", "me", "-f", str(signers), "-s", str(tmp_path / "o" / "sig")],
                       input=b"data\n", capture_output=True)
    assert v.returncode == 0, v.stderr
    assert subprocess.run(["pgrep", "-f", "ssh-agent -a .*bxc-ssh-"], capture_output=True, text=True).stdout == ""


def test_the_users_own_agent(two, reg, tmp_path, agent):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nCOPY root /\nARG N\nRUN --mount=type=ssh,required,target=/run/a "
                                     "echo $SSH_AUTH_SOCK; ssh-add -l; ssh-add -D; ssh-add -l\n" % reg.ref("base:latest")})
    openssh(os.path.join(ctx, "root"))
    r = two.build("--ssh", "default", "--build-arg", "N=1", ctx, env={"SSH_AUTH_SOCK": agent})
    assert r.text.count("(ED25519)") == 2 and " /run/a\n" in r.text
    r = two.build("--ssh", "default=%s,raw=true" % agent, "--build-arg", "N=2", ctx, check=False)
    assert "All identities removed." in r.text and "The agent has no identities." in r.text


def test_what_is_wrong_with_ssh(two, reg, tmp_path, agent):
    ctx = context(tmp_path / "ctx", {"Dockerfile": "FROM %s\nRUN --mount=type=ssh,id=x,required true\n" % reg.ref("base:latest")})
    two.build(ctx, check=False).fails(1, 'no SSH key "x" forwarded from the client', "Dockerfile:2")
    two.build("--ssh", "default", ctx, check=False, env={"SSH_AUTH_SOCK": ""}).fails(2, "make sure SSH_AUTH_SOCK is set")
    two.build("--ssh", "x=%s" % agent, "--ssh", "x=%s" % agent, ctx, check=False).fails(2, 'duplicate agent ID "x"')
    two.build("--ssh", "x=%s,%s" % (key(tmp_path, "k"), agent), ctx, check=False).fails(2, "invalid combination of keys and sockets")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "pass phrase", "-f", str(tmp_path / "k")], check=True)
    two.build("--ssh", "x=%s" % (tmp_path / "k"), ctx, check=False).fails(1, "without a passphrase")
    two.build("--ssh", "x=%s" % (tmp_path / "none"), ctx, check=False).fails(1, "failed to stat")
