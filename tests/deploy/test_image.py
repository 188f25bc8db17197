"""The image: its Dockerfile, the tree that it consists of, and the very binary in that tree with nothing else around it."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from files import DEPLOY, ROOT, dockerfile

CALL = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}).encode()
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    said = subprocess.run([hadolint, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


def test_every_base_is_of_a_version():
    bases = [instructions[0][1].split()[0] for instructions in dockerfile()]
    assert bases[-1] == "scratch"
    for base in bases[:-1]:
        assert re.search(r":\d+\.\d+\.\d+", base), base


def test_the_toolchain_is_new_enough():
    base = dockerfile()[0][0][1]
    version = re.search(r"rust:(\d+)\.(\d+)", base).groups()
    least = re.search(r'rust-version = "(\d+)\.(\d+)"', (ROOT / "Cargo.toml").read_text()).groups()
    assert tuple(map(int, version)) >= tuple(map(int, least))
    assert ("ENV", f"RUSTUP_TOOLCHAIN={'.'.join(version)}.0") in dockerfile()[0]


def test_the_build_is_locked_and_makes_the_tree_that_is_copied():
    assert ("ENV", "POLYGATE_COMMIT=${COMMIT}") in dockerfile()[0]
    build = next(said for word, said in dockerfile()[0] if word == "RUN")
    assert "cargo build --release --locked" in build
    assert "deploy/rootfs.sh target/release/polygate /rootfs" in build
    assert ("COPY", "--from=build /rootfs /") in dockerfile()[-1]


def test_the_context_is_what_the_build_needs():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    for path in kept:
        assert (ROOT / path).exists(), path
    members = re.search(r"members = \[(.+)\]", (ROOT / "Cargo.toml").read_text())[1]
    needed = {"Cargo.toml", "Cargo.lock", "deploy/rootfs.sh", *re.findall(r'"([\w-]+)', members)}
    assert set(kept) == needed


def test_it_is_nobody_and_stops_as_the_gateway_wants(image):
    assert image.user == image.group == 65532
    assert image.one("STOPSIGNAL") == "SIGTERM"
    assert image.environment == {"POLYGATE_HOST": "0.0.0.0", "POLYGATE_DATA_DIR": "/data"}
    assert image.volumes == ["/data"]
    assert image.labels["org.opencontainers.image.version"] == "${VERSION}"
    assert image.labels["org.opencontainers.image.revision"] == "${COMMIT}"


def test_the_tree_is_small_and_has_no_shell(tree):
    files = [path for path in tree.rglob("*") if path.is_file()]
    programs = {path.name for path in files if os.access(path, os.X_OK) and "lib" not in path.name and ".so" not in path.name}
    assert programs == {"polygate"}
    beside = sum(path.stat().st_size for path in files if path.name != "polygate")
    assert beside < 8 << 20, "only libraries and certificates are beside the binary"
    assert not [path for path in files if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]


def test_the_tree_has_its_files(tree, image):
    assert (tree / CERTIFICATES).read_text().count("BEGIN CERTIFICATE") > 100
    users = (tree / "etc/passwd").read_text().splitlines()
    assert f"polygate:x:{image.user}:{image.group}:polygate:/data:/sbin/nologin" in users
    data = (tree / "data").stat()
    assert (data.st_uid, data.st_gid) == (image.user, image.group)
    # Scanners find the packages of what is here.
    known = {path.name for path in (tree / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "ca-certificates"} <= known
    for package in known:
        assert (tree / "usr/share/doc" / package / "copyright").is_file(), package


def test_it_serves_from_a_bare_root_and_ends_with_0(container):
    before = sorted(path.relative_to(container.tree) for path in container.tree.rglob("*"))
    container.start()
    status, health = container.ask("/health/ready")
    assert (status, json.loads(health)) == (200, {"status": "ready"})
    status, answer = container.ask("/v1/chat/completions", CALL)
    assert status == 200
    assert json.loads(answer)["choices"][0]["message"]["content"]
    assert b"process_resident_memory_bytes" in container.ask("/metrics")[1]
    me = Path(f"/proc/{container.child.pid}/status").read_text()
    assert re.search(r"Uid:\s+65532\s+65532\s+65532\s+65532", me)
    assert re.search(r"CapEff:\s+0+\n", me) and re.search(r"NoNewPrivs:\s+1", me)
    assert container.stop() == 0, container.errors.read_text()
    # Only the volume was written, as the image's user.
    assert sorted(path.relative_to(container.tree) for path in container.tree.rglob("*")) == before
    kept = {path.name: path.stat().st_uid for path in container.data.iterdir()}
    assert {"polygate.db", "admin-key", "secret-key", "ledger"} <= set(kept)
    assert set(kept.values()) == {65532}


def test_what_a_volume_keeps_is_there_again(container):
    container.start().stop()
    key = (container.data / "admin-key").read_text()
    container.start()
    assert container.ask("/admin/v1/usage", authorization=f"Bearer {key}")[0] == 200
    assert (container.data / "admin-key").read_text() == key


@pytest.mark.parametrize("config", ["compose/polygate/config.yaml", "kubernetes/base/config.yaml"])
def test_everyone_needs_a_key_and_the_admin_api_makes_them(container, config):
    # Loopback is what a private address is: without `master_keys` it would need none.
    shutil.copy(DEPLOY / config, container.tree / "etc/polygate/config.yaml")
    admin = "an-admin-key-of-ours"
    container.start(POLYGATE_CONFIG="/etc/polygate/config.yaml", ADMIN_KEY=admin)
    with pytest.raises(urllib.error.HTTPError) as refused:
        container.ask("/v1/models")
    assert refused.value.code == 401
    made = container.ask("/admin/v1/master-keys", b'{"name": "alice"}', authorization=f"Bearer {admin}")[1]
    assert container.ask("/v1/models", authorization=f"Bearer {json.loads(made)['key']}")[0] == 200


def calls_over_tls(container, provider, is_known):
    certificate, address = provider
    if is_known:
        with (container.tree / CERTIFICATES).open("a") as known:
            known.write(certificate.read_text())
    config = {"providers": [{"name": "own", "type": "openai", "api_base": address, "api_key": "sk-own", "model_mapping": ["demo"]}]}
    (container.tree / "etc/polygate/config.yaml").write_text(json.dumps(config))
    container.start(POLYGATE_CONFIG="/etc/polygate/config.yaml")
    return container.ask("/v1/chat/completions", CALL)


def test_names_are_found_and_the_trees_certificates_believed(container, provider):
    status, answer = calls_over_tls(container, provider, is_known=True)
    assert (status, json.loads(answer)["choices"][0]["message"]["content"]) == (200, "over TLS")


def test_other_certificates_are_not_believed(container, provider):
    with pytest.raises(urllib.error.HTTPError) as refused:
        calls_over_tls(container, provider, is_known=False)
    assert refused.value.code >= 500


def test_a_library_that_is_missing_is_found_out(tree, tmp_path):
    # That the root is bare is what makes the tests above worth something.
    broken = tmp_path / "broken"
    shutil.copytree(tree, broken, symlinks=True)
    next(broken.rglob("libgcc_s.so.1")).unlink()
    said = subprocess.run(["chroot", broken, "/usr/local/bin/polygate", "--version"], capture_output=True, text=True)
    assert said.returncode == 127 and "libgcc_s.so.1" in said.stderr


def test_the_health_check_is_a_command_of_the_image(image, container):
    command, times = image.health
    assert command[0] == image.entrypoint[0]
    assert set(times) == {"interval", "timeout", "start-period", "retries"}
    port = container.start().url.rsplit(":", 1)[1]
    assert container.run(command, POLYGATE_PORT=port).returncode == 0
    container.stop()
    assert container.run(command, POLYGATE_PORT=port).returncode == 1
