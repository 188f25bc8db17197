"""The real binary between the official SDKs and simulated providers."""

import json
import os
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import pytest

BINARY = os.environ["POLYGATE_BIN"]

CONFIG = """
providers:
  - {{name: native, type: mock, api_base: '{main}', api_key: up-native, model_mapping: [m-native, m-embedding]}}
  - {{name: anthropic, type: anthropic, api_base: '{main}', api_key: up-anthropic, model_mapping: {{m-anthropic: claude-sonnet-4-5}}}}
  - {{name: gemini, type: gemini, api_base: '{main}', api_key: up-gemini, model_mapping: {{m-gemini: gemini-2.5-flash}}}}
  - {{name: responses, type: response_api, api_base: '{main}', api_key: up-responses, model_mapping: {{m-responses: gpt-x}}}}
  - {{name: azure, type: azure, api_base: '{main}', api_key: up-azure, model_mapping: [m-azure]}}
  - {{name: broken, type: mock, api_base: '{broken}', api_key: up-broken, model_mapping: [m-two, m-broken]}}
  - {{name: sound, type: mock, api_base: '{main}', api_key: up-sound, model_mapping: [m-two]}}
routing: {{strategy: fill-first}}
retry: {{max_retries: 1, breaker_threshold: 1000000, initial_backoff: 1ms}}
health_check: {{enabled: false}}
master_keys:
  - {{name: all, key: sk-all}}
  - {{name: some, key: sk-some, allowed_models: [m-native]}}
  - {{name: slow, key: sk-slow, rate_limit: {{requests_per_second: 1, burst_size: 1}}}}
"""


class Process:
    """A program that says where it listens in its first line."""

    def __init__(self, args, cwd):
        env = {"ADMIN_KEY": "pg-admin-for-sdk-tests", "PATH": os.environ.get("PATH", "")}
        self.child = subprocess.Popen(
            [BINARY, *args], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = next(line for line in self.child.stdout if "http://" in line)
        self.url = "http://" + line.split("http://")[1].split()[0].rstrip(".")

    def stop(self):
        self.child.kill()
        self.child.wait()


class Mock(Process):
    """A simulated provider."""

    def control(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_mock/{path}", data=data, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def script(self, **then):
        self.control("POST", "script", {"then": then})

    def ledger(self):
        return self.control("GET", "ledger")


@pytest.fixture(scope="session")
def directory():
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture(scope="session")
def mocks(directory):
    args = ["mock", "--port", "0", "--keep-bodies"]
    main, broken = Mock(args, directory), Mock(args, directory)
    yield {"main": main, "broken": broken}
    main.stop()
    broken.stop()


@pytest.fixture(scope="session")
def gate(mocks, directory):
    text = CONFIG.format(main=mocks["main"].url, broken=mocks["broken"].url)
    (directory / "config.yaml").write_text(text)
    process = Process(["--port", "0"], directory)
    yield process.url
    process.stop()


@pytest.fixture
def main_mock(mocks):
    mocks["main"].control("DELETE", "script")
    yield mocks["main"]
    mocks["main"].control("DELETE", "script")


@pytest.fixture
def broken_mock(mocks):
    mocks["broken"].control("DELETE", "script")
    yield mocks["broken"]
    mocks["broken"].control("DELETE", "script")
