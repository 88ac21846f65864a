"""A web server with files of the test's own, and with git repositories (by git http-backend)."""
import http.server
import os
import subprocess
import sys
import threading
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer()

    do_HEAD = do_POST = do_GET

    def log_message(self, *args):
        pass

    def answer(self):
        web = self.server.web
        path = self.path.split("?")[0]
        web.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if ".git/" in path:
            return self.git(path)
        found = web.files.get(path)
        if found is None:
            return self.reply(404, {}, b"no such file")
        data, headers = found
        if headers.get("ETag") and self.headers.get("If-None-Match") == headers["ETag"]:
            return self.reply(304, {"ETag": headers["ETag"]}, b"")
        return self.reply(headers.get(":status", 200), headers, data)

    def reply(self, status, headers, data):
        self.send_response(status)
        for k, v in headers.items():
            if not k.startswith(":"):
                self.send_header(k, v)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def git(self, path):
        web = self.server.web
        if web.git_auth and self.headers.get("Authorization") != web.git_auth:
            return self.reply(401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
        query = self.path.partition("?")[2]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = dict(os.environ, GIT_PROJECT_ROOT=web.git_root, GIT_HTTP_EXPORT_ALL="1", PATH_INFO=urllib.parse.unquote(path),
                   QUERY_STRING=query, REQUEST_METHOD=self.command, CONTENT_TYPE=self.headers.get("Content-Type", ""),
                   CONTENT_LENGTH=str(len(body)), GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
                   HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""), REMOTE_ADDR="127.0.0.1")
        p = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True)
        head, _, data = p.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200").split()[0])
        if status != 200:
            print("%s %s: %d: %s" % (self.command, self.path, status, p.stderr.decode()), file=sys.stderr)
        return self.reply(status, headers, data)


class Web:
    """files: "/path" -> (bytes, headers); ":status" among the headers is the status."""

    def __init__(self, git_root=None):
        self.files, self.requests = {}, []
        self.git_root, self.git_auth = str(git_root), None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.web = self
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever)

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def put(self, path, data, **headers):
        self.files[path] = (data if isinstance(data, bytes) else data.encode(), {k.replace("_", "-") if k != ":status" else k: v for k, v in headers.items()})
        return self.url + path

    def paths(self, method=None):
        return [p for m, p, _ in self.requests if method in (None, m)]


class Repo:
    """A repository with a work tree, served bare as NAME.git below git_root."""

    def __init__(self, git_root, name, names="sha1"):
        self.bare, self.work = os.path.join(str(git_root), name + ".git"), os.path.join(str(git_root), name + ".work")
        self.name = name
        self.run("init", "-q", "-b", "main", "--object-format=" + names, self.work, cwd="/")
        self.run("init", "-q", "--bare", "-b", "main", "--object-format=" + names, self.bare, cwd="/")
        self.run("remote", "add", "origin", self.bare)

    def run(self, *args, cwd=None, when=1600000000):
        env = {"PATH": os.environ["PATH"], "HOME": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": "file:http",
               "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
               "GIT_AUTHOR_DATE": "%d +0000" % when, "GIT_COMMITTER_DATE": "%d +0000" % when}
        return subprocess.run(("git",) + args, cwd=cwd or self.work, env=env, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, files, when=1600000000):
        """files: name -> text; a name that ends in '*' is made executable; ("link", target) makes a link."""
        for name, data in files.items():
            path = os.path.join(self.work, name.rstrip("*"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if isinstance(data, tuple):
                os.symlink(data[1], path)
                continue
            with open(path, "w") as f:
                f.write(data)
            os.chmod(path, 0o755 if name.endswith("*") else 0o644)
        self.run("add", "-A")
        self.run("commit", "-q", "-m", "c", when=when)
        self.push()
        return self.head()

    def push(self):
        self.run("push", "-q", "origin", "--all")
        self.run("push", "-q", "origin", "--tags")

    def head(self):
        return self.run("rev-parse", "HEAD")
