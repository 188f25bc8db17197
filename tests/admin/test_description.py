"""The admin API holds to its own description, whatever is sent to it: no server error, no answer of another shape."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

BINARY = os.environ["POLYGATE_BIN"]
ADMIN_KEY = "pg-admin-for-description-tests"

CONFIG = """
providers:
  - {name: own, type: mock, api_base: 'http://127.0.0.1:9', api_key: sk-of-the-file, model_mapping: [m]}
models: {named: {targets: [{provider: own, model: m}]}}
master_keys: [{name: filed, key: sk-file-key}]
health_check: {enabled: false}
"""

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
]

SEEDS = {
    "providers": {"provider_key": "p", "provider_type": "mock", "api_base": "http://127.0.0.1:9", "api_key": "sk-0123456789ab"},
    "master-keys": {"id": "k", "key": "sk-brought-by-the-user"},
    "models": {"name": "m2", "targets": [{"provider": "p", "model": "m"}]},
    "teams": {"name": "t"},
    "prices": {"model": "m", "price": {"input": 1, "output": 2}},
}


@pytest.fixture
def gateway(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    env = {"ADMIN_KEY": ADMIN_KEY, "PATH": os.environ.get("PATH", "")}
    with (tmp_path / "gate.log").open("w") as log:
        args = [BINARY, "--port", "0"]
        child = subprocess.Popen(args, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
    line = next((line for line in child.stdout if "http://" in line), None)
    assert line, (tmp_path / "gate.log").read_text()
    yield "http://" + line.split("http://")[1].split()[0].rstrip(".")
    child.kill()
    child.wait()


def test_the_admin_api_holds_to_its_description(gateway, tmp_path):
    for path, body in SEEDS.items():
        request = urllib.request.Request(f"{gateway}/admin/v1/{path}", json.dumps(body).encode(), method="POST")
        request.add_header("authorization", f"Bearer {ADMIN_KEY}")
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 201
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"{gateway}/admin/v1/openapi.json",
        "--checks=" + ",".join(CHECKS),
        f"--header=Authorization: Bearer {ADMIN_KEY}",
        "--phases=examples,coverage,fuzzing",
        "--max-examples=20",
        # A wrong key is not what is tried here: ten of them, and the address waits.
        "--generation-with-security-parameters=false",
        "--seed=1",
        "--no-color",
        "--continue-on-failure",
        # They ask providers, which are not there, and take their time for it.
        "--exclude-path-regex=health",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
