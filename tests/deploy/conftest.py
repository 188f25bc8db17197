"""The image's file tree, and programs that run in it as in a container: nothing else is there, and it cannot be written."""

import os
import re
import shutil
import ssl
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from files import DEPLOY, Image

BINARY = Path(os.environ["POLYGATE_BIN"])

# A root that is read-only but for the data directory and /tmp, with /proc as container engines mount it. Nothing may get rights back.
CONFINE = """
set -eu
mount --bind "$0" "$0"
mount --bind "$1" "$0/data"
mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"
mount -t proc proc "$0/proc"
mount -o remount,bind,ro "$0"
user=$2 group=$3 directory=$4
tree=$0
shift 4
exec setpriv --no-new-privs unshare --root="$tree" --wd="$directory" --setgid="$group" --setuid="$user" -- "$@"
"""


@pytest.fixture(scope="session")
def image():
    return Image()


def may_confine():
    """Whether this machine lets a test have a root of its own: in most containers nobody may mount."""
    if os.geteuid() != 0 or not all(map(shutil.which, ["unshare", "setpriv", "dpkg-query"])):
        return False
    return subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """As deploy/Dockerfile has it made."""
    if not may_confine():
        pytest.skip("no root, or no mounts here: the image's file tree is NOT tested")
    tree = tmp_path_factory.mktemp("image") / "rootfs"
    tree.parent.chmod(0o755)
    subprocess.run([DEPLOY / "rootfs.sh", BINARY, tree], check=True)
    return tree


class Container:
    """The image as a container would run it."""

    def __init__(self, image, tree, folder):
        self.image = image
        # What engines add to an image: where they mount, and who the local host is.
        self.tree = folder / "root"
        subprocess.run(["cp", "--archive", tree, self.tree], check=True)
        (self.tree / "proc").mkdir()
        (self.tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (self.tree / "etc/polygate").mkdir()
        # A volume begins with what the image has there, and whose it is.
        self.data = folder / "volume"
        os.rename(self.tree / "data", self.data)
        (self.tree / "data").mkdir()
        self.errors = folder / "errors.log"

    def command(self, args):
        image = self.image
        where = [self.tree, self.data, image.user, image.group, image.directory]
        return ["unshare", "--mount", "sh", "-c", CONFINE, *map(str, where), *args]

    def environment(self, **more):
        # Tests listen where only this machine hears them.
        return {**self.image.environment, "POLYGATE_HOST": "127.0.0.1", "PATH": os.environ["PATH"], **more}

    def start(self, *args, **environment):
        command = self.command([*self.image.entrypoint, "--port", "0", *args])
        with self.errors.open("w") as errors:
            self.child = subprocess.Popen(
                command, env=self.environment(**environment), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        line = next((line for line in self.child.stdout if "http://" in line), None)
        assert line, self.errors.read_text()
        self.url = re.search(r"http://[\d.]+:\d+", line)[0]
        return self

    def run(self, args, **environment):
        """Another program beside it, as health checks are."""
        return subprocess.run(self.command(args), env=self.environment(**environment), capture_output=True, text=True, timeout=30)

    def ask(self, path, body=None, **headers):
        request = urllib.request.Request(self.url + path, data=body, headers={"content-type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()

    def stop(self):
        """SIGTERM, as every engine does; the exit code."""
        self.child.terminate()
        return self.child.wait(timeout=60)


@pytest.fixture
def container(image, tree, tmp_path):
    container = Container(image, tree, tmp_path)
    yield container
    child = getattr(container, "child", None)
    if child and child.poll() is None:
        child.kill()
        child.wait()


ANSWER = b"""{"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "finish_reason": "stop",
"message": {"role": "assistant", "content": "over TLS"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}"""


class Provider(BaseHTTPRequestHandler):
    """Says the same to everyone."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_):
        pass


@pytest.fixture
def provider(tmp_path):
    """One behind TLS, whose certificate is its own authority's: the file of that, and where it listens."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        + ["-addext", "basicConstraints=critical,CA:FALSE"],
        check=True,
        capture_output=True,
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield certificate, f"https://localhost:{server.server_address[1]}/v1"
    server.shutdown()
