"""The systemd units: systemd's own checks, and what they say of the gateway."""

import os
import re
import shutil
import socket
import subprocess
import urllib.request

import pytest

import manager
from conftest import BINARY
from files import DEPLOY, ROOT, seconds

UNITS = DEPLOY / "systemd"
INSTALLED = "/usr/local/bin/polygate"

# What systemd says of the service's exposure, of 10: what is left is that it talks to the network.
MOST_EXPOSED = 1.6

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")


def unit(name):
    """Sections of pairs; a key that comes again is a list of them."""
    sections = {}
    for line in (UNITS / name).read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(header[1], {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            section.setdefault(key, []).append(value)
    return sections


SERVICE = unit("polygate.service")
SOCKET = unit("polygate.socket")


@pytest.fixture
def units(tmp_path):
    """The units with the binary where it is here."""
    for path in UNITS.iterdir():
        text = path.read_text().replace(INSTALLED, str(BINARY))
        (tmp_path / path.name).write_text(text)
    return tmp_path


def analyze(*args):
    environment = {**os.environ, "SYSTEMD_PAGER": "cat", "SYSTEMD_COLORS": "0"}
    return subprocess.run(["systemd-analyze", *args], env=environment, capture_output=True, text=True)


@needs_systemd
def test_systemd_has_nothing_to_say(units):
    said = analyze("verify", "--man=no", units / "polygate.socket", units / "polygate.service")
    ours = [line for line in said.stderr.splitlines() if "polygate" in line]
    assert (said.returncode, ours) == (0, [])


@needs_systemd
def test_an_unknown_key_is_found(units):
    service = units / "polygate.service"
    service.write_text(service.read_text().replace("ProtectSystem=", "ProtctSystem="))
    assert "'ProtctSystem'" in analyze("verify", "--man=no", service).stderr


@needs_systemd
def test_it_is_hardly_exposed(units):
    said = analyze("security", "--offline=true", f"--threshold={int(MOST_EXPOSED * 10)}", units / "polygate.service")
    exposure = float(re.search(r"Overall exposure level for polygate.service: ([\d.]+)", said.stdout)[1])
    assert said.returncode == 0 and exposure <= MOST_EXPOSED, said.stdout


def test_the_socket_is_the_service_s():
    assert SERVICE["Unit"]["Requires"] == ["polygate.socket"]
    assert "polygate.socket" in SERVICE["Unit"]["After"]
    assert SOCKET["Socket"]["ListenStream"] == ["8080"]
    assert SOCKET["Install"]["WantedBy"] == ["sockets.target"]


def test_it_tells_systemd_how_it_goes():
    service = SERVICE["Service"]
    assert service["Type"] == ["notify"]
    assert service["NotifyAccess"] == ["all"], "the process after an upgrade says that it is the main one now"
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert service["RestartPreventExitStatus"] == ["78"]


def test_it_may_write_its_data_and_nothing_else():
    service = SERVICE["Service"]
    (state,) = service["StateDirectory"]
    assert service["Environment"] == [f"POLYGATE_DATA_DIR=/var/lib/{state}"]
    assert service["WorkingDirectory"] == [f"/var/lib/{state}"]
    assert service["ProtectSystem"] == ["strict"] and "ReadWritePaths" not in service
    assert service["DynamicUser"] == ["yes"]


def test_time_is_left_for_the_longest_streams():
    assert seconds(SERVICE["Service"]["TimeoutStopSec"][0]) >= 600 + 14


def test_the_manual_has_the_same_units():
    # What docs/operation.md shows is the core of what is installed.
    shown = re.search(r"```ini\n(.*?)```", (ROOT / "docs/operation.md").read_text(), re.DOTALL)[1]
    for line in shown.splitlines():
        if "=" in line:
            assert any(line in (UNITS / name).read_text().splitlines() for name in ["polygate.socket", "polygate.service"]), line


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="no systemd here")
def test_its_command_takes_the_socket(tmp_path):
    (tmp_path / "config.yaml").write_text("server: {port: 1}\nproviders: []\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (command,) = SERVICE["Service"]["ExecStart"]
    command = command.replace(INSTALLED, str(BINARY)).replace("/etc/polygate", str(tmp_path)).split()
    environment = {"PATH": os.environ["PATH"], "POLYGATE_DATA_DIR": str(tmp_path / "data")}
    child = subprocess.Popen(
        ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--setenv=POLYGATE_DATA_DIR", *command],
        cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    try:
        for line in child.stderr:
            if "Listening on" in line:
                break
        # The connection starts it, and waits in the socket until it serves.
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=30) as answer:
            assert answer.status == 200
        child.terminate()
        assert child.wait(timeout=30) == 0
    finally:
        child.kill()


CONFIG = """
server: {shutdown_grace: 20}
providers: [{name: mock, type: mock, api_base: 'http://localhost:9090', api_key: sk-mock, model_mapping: [demo]}]
"""
CALL = '{"model": "demo", "stream": true, "messages": [{"role": "user", "content": "one two three four five six seven"}]}'
CURL = ["curl", "--silent", "--show-error", "--max-time", "30"]
DONE = "data: [DONE]\n\n"
STREAM = [*CURL, "--no-buffer", "--header", "content-type: application/json", "--data", CALL, "http://127.0.0.1:8080/v1/chat/completions"]


@pytest.fixture(scope="module")
def systemd(tmp_path_factory):
    """With the units as they are, confinement and all, and a simulated provider beside them."""
    if not manager.is_possible():
        pytest.skip("no systemd, or not root: the units are not started")
    systemd = manager.Manager(UNITS, BINARY, tmp_path_factory.mktemp("systemd"))
    provider = systemd.start("/usr/local/bin/polygate", "mock", "--token-ms", "200")
    yield systemd
    provider.kill()
    systemd.stop()


@pytest.fixture
def serving(systemd):
    """Asked once, by which the socket starts it."""
    systemd.configure(CONFIG)
    assert systemd.systemctl("start", "polygate.socket").returncode == 0
    assert systemd.systemctl("is-active", "polygate.service").stdout == "inactive\n"
    said = systemd.run(*CURL, "http://127.0.0.1:8080/health/ready")
    assert said.stdout == '{"status":"ready"}', said.stderr + systemd.log.read_text()
    yield systemd
    systemd.systemctl("stop", "polygate.socket", "polygate.service")
    systemd.systemctl("reset-failed")


def begun(systemd):
    """A stream that is under way."""
    stream = systemd.start(*STREAM)
    assert stream.stdout.readline().startswith("data: ")
    return stream


def test_a_connection_starts_it_as_nobody_with_no_rights(serving):
    first = serving.show("MainPID", "ActiveState")
    assert first["ActiveState"] == "active"
    status = serving.run("cat", f"/proc/{first['MainPID']}/status").stdout
    assert int(re.search(r"Uid:\s+(\d+)", status)[1]) >= 61184, "one of DynamicUser's"
    assert re.search(r"CapEff:\s+0+\n", status) and re.search(r"CapBnd:\s+0+\n", status)
    assert re.search(r"NoNewPrivs:\s+1\n", status) and re.search(r"Seccomp:\s+2\n", status)
    kept = serving.run("ls", "/var/lib/polygate/").stdout.split()
    assert {"polygate.db", "admin-key", "ledger"} <= set(kept)
    assert serving.run("stat", "--format=%a", "/var/lib/private/polygate").stdout == "700\n"


def test_a_reload_is_over_when_the_new_configuration_is_in_force(serving):
    before = serving.show("MainPID")
    serving.configure(CONFIG.replace("[demo]", "[other]"))
    assert serving.systemctl("reload", "polygate.service").returncode == 0
    serving.wait_for(lambda: '"other"' in serving.run(*CURL, "http://127.0.0.1:8080/v1/models").stdout, "the other model")
    assert serving.show("MainPID", "ActiveState") == before | {"ActiveState": "active"}


def upgraded(systemd):
    """Another process is the main one."""
    before = systemd.show("MainPID")["MainPID"]
    systemd.systemctl("kill", "--kill-whom=main", "--signal=SIGUSR2", "polygate.service")
    after = systemd.wait_for(lambda: {systemd.show("MainPID")["MainPID"]} - {before}, "another main process").pop()
    assert after != "0" and systemd.show("ActiveState")["ActiveState"] == "active"
    return before, after


def test_an_upgrade_cuts_no_stream(serving):
    stream = begun(serving)
    before, after = upgraded(serving)
    assert stream.stdout.read().endswith(DONE)
    serving.wait_for(lambda: serving.run("ls", f"/proc/{before}").returncode != 0, "the end of the process before")
    assert serving.show("MainPID", "NRestarts") == {"MainPID": after, "NRestarts": "0"}


def test_a_stop_after_an_upgrade_lets_streams_finish(serving):
    upgraded(serving)
    stream = begun(serving)
    serving.systemctl("stop", "polygate.socket", "polygate.service")
    assert stream.stdout.read().endswith(DONE)
    assert serving.show("Result", "ActiveState") == {"Result": "success", "ActiveState": "inactive"}


def test_a_stop_amid_an_upgrade_lets_both_finish(serving):
    old = begun(serving)
    upgraded(serving)
    new = begun(serving)
    serving.systemctl("stop", "polygate.socket", "polygate.service")
    assert old.stdout.read().endswith(DONE) and new.stdout.read().endswith(DONE)
    assert serving.show("Result", "ActiveState") == {"Result": "success", "ActiveState": "inactive"}


def test_a_restart_refuses_nobody_and_lets_streams_finish(serving):
    stream = begun(serving)
    asking = "for i in $(seq 100); do curl -s --max-time 30 -o /dev/null -w '%{http_code}\n' http://127.0.0.1:8080/health; done"
    asked = serving.start("sh", "-c", asking)
    assert serving.systemctl("restart", "polygate.service").returncode == 0
    assert stream.stdout.read().endswith(DONE)
    assert asked.communicate(timeout=60)[0].split() == ["200"] * 100


def test_it_ends_well(serving):
    serving.systemctl("stop", "polygate.socket", "polygate.service")
    said = serving.show("Result", "ExecMainStatus", "ActiveState")
    assert said == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive"}


def test_a_configuration_that_is_refused_is_not_tried_again(systemd):
    systemd.configure("providers: 3\n")
    assert systemd.systemctl("start", "polygate.service").returncode == 1
    said = systemd.show("Result", "ExecMainStatus", "ActiveState", "NRestarts")
    assert said == {"Result": "exit-code", "ExecMainStatus": "78", "ActiveState": "failed", "NRestarts": "0"}
    systemd.systemctl("stop", "polygate.socket")
    systemd.systemctl("reset-failed")


def test_one_that_is_killed_comes_back(serving):
    serving.systemctl("kill", "--kill-whom=main", "--signal=SIGKILL", "polygate.service")
    serving.wait_for(lambda: serving.show("NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}, "a restart")
    assert serving.run(*CURL, "http://127.0.0.1:8080/health/ready").stdout == '{"status":"ready"}'
