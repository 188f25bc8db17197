"""The real binary between the official SDKs and simulated providers."""

import json
import os
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from upstreams import CLIENTS, UPSTREAMS

BINARY = os.environ["POLYGATE_BIN"]

CONFIG = """
providers:
  - {{name: native, type: mock, api_base: '{main}', api_key: up-native, model_mapping: [m-native, m-embedding]}}
{upstreams}
  - {{name: azure, type: azure, api_base: '{main}', api_key: up-azure, model_mapping: [m-azure]}}
  - {{name: limited, type: mock, api_base: '{broken}', api_key: up-limited, model_mapping: [m-limited]}}
{fresh}
  - {{name: sound, type: mock, api_base: '{main}', api_key: up-sound, model_mapping: ['m-two-*']}}
routing: {{strategy: fill-first}}
retry: {{max_retries: 1, breaker_threshold: 1000000, initial_backoff: 1ms}}
health_check: {{enabled: false}}
master_keys:
  - {{name: all, key: sk-all}}
  - {{name: other, key: sk-other}}
  - {{name: some, key: sk-some, allowed_models: [m-native]}}
  - {{name: slow-openai, key: sk-slow-openai, rate_limit: {{requests_per_second: 1, burst_size: 1}}}}
  - {{name: slow-anthropic, key: sk-slow-anthropic, rate_limit: {{requests_per_second: 1, burst_size: 1}}}}
  - {{name: slow-gemini, key: sk-slow-gemini, rate_limit: {{requests_per_second: 1, burst_size: 1}}}}
"""

# Each failover test takes the next of these: what an earlier failure made rest is never what it asks.
FRESH = 100
FRESH_PROVIDER = "  - {{name: fresh-{at}, type: mock, api_base: '{broken}', api_key: up-{at}, model_mapping: [m-two-{at}]}}"
# One of a provider's format each, and for each client one that may be made to rest.
NAMES = {name.removeprefix("m-"): name for name in UPSTREAMS}
PROVIDERS = [UPSTREAMS[model].provider(name, model, f"up-{name}") for name, model in NAMES.items()]
PROVIDERS += [
    UPSTREAMS[model].provider(f"{name}-limited-{client}", f"{model}-limited-{client}", f"up-{name}")
    for name, model in NAMES.items()
    for client in CLIENTS
]


class Process:
    """A program that says where it listens in its first line."""

    def __init__(self, args, cwd):
        env = {"ADMIN_KEY": "pg-admin-for-sdk-tests", "PATH": os.environ.get("PATH", "")}
        log = cwd / f"{args[0].strip('-')}-{time.monotonic_ns()}.log"
        with log.open("w") as errors:
            self.child = subprocess.Popen([BINARY, *args], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
        line = next((line for line in self.child.stdout if "http://" in line), None)
        assert line, f"{args} did not start: {log.read_text()}"
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

    def last(self):
        return self.ledger()[-1]

    def forget(self):
        self.control("DELETE", "script")
        self.control("DELETE", "ledger")


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
    main, broken = mocks["main"].url, mocks["broken"].url
    fresh = "\n".join(FRESH_PROVIDER.format(at=at, broken=broken) for at in range(FRESH))
    upstreams = "\n".join(provider.replace("{main}", main) for provider in PROVIDERS)
    (directory / "gate.yaml").write_text(CONFIG.format(main=main, broken=broken, fresh=fresh, upstreams=upstreams))
    process = Process(["--port", "0", "-c", "gate.yaml"], directory)
    yield process.url
    process.stop()


@pytest.fixture
def main_mock(mocks):
    mocks["main"].forget()
    yield mocks["main"]
    mocks["main"].forget()


@pytest.fixture
def broken_mock(mocks):
    mocks["broken"].forget()
    yield mocks["broken"]
    mocks["broken"].forget()


@pytest.fixture(scope="session")
def fresh_models():
    return (f"m-two-{at}" for at in range(FRESH))


@pytest.fixture
def two_model(fresh_models, main_mock, broken_mock):
    """A model of two providers; the first is the broken mock's. The test is void unless both were asked."""
    yield next(fresh_models)
    assert broken_mock.ledger(), "the failing provider was never asked"
    assert main_mock.ledger(), "the sound provider was never asked"


@pytest.fixture(autouse=True)
def the_provider_was_asked_in_its_own_format(request, main_mock):
    """The mock speaks every format: without this a test of translation would pass untranslated."""
    yield
    model = getattr(request.node, "callspec", None) and request.node.callspec.params.get("model")
    if upstream := UPSTREAMS.get(model):
        asked = {entry["endpoint"] for entry in main_mock.ledger()}
        assert asked and asked <= upstream.endpoints
