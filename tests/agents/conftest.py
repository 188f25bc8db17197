"""The real binary between real coding agents and a scripted provider."""

import dataclasses
import json
import os
import subprocess
import warnings
from pathlib import Path

import pytest

import agents
import loopback
from upstream import Upstream

BINARY = str(Path(os.environ.get("POLYGATE_BIN", Path(__file__).parents[2] / "target/ci/polygate")).absolute())
UP_MODELS = {"anthropic": "claude-sonnet-4-5", "chat": "gpt-5.1", "responses": "gpt-5.1", "gemini": "gemini-3-pro-preview"}
# What differs with the test: the generation of Gemini whose calls have no ids, and that of Claude that thinks as it likes.
NO_IDS, NEWEST = {"gemini": "gemini-2.5-flash"}, {"anthropic": "claude-sonnet-5"}
TYPES = {"anthropic": "type: anthropic", "chat": "type: openai, wire_api: chat", "responses": "type: response_api", "gemini": "type: gemini"}
CONFIG = """
providers:
  - {{name: {vendor}, {type}, api_base: '{url}', api_key: up-{vendor}, model_mapping: {{'{family}-*': {model}}}}}
retry: {{max_retries: 0}}
health_check: {{enabled: false}}
"""


@pytest.fixture(scope="session", autouse=True)
def installed():
    agents.install()
    why = loopback.close_off()
    if why:
        warnings.warn(f"NOT CLOSED OFF from the network ({why}): agents are told of a proxy that refuses, and nothing more", stacklevel=1)


@dataclasses.dataclass
class Run:
    """What became of one session."""

    agent: agents.Agent
    ended: agents.Ended
    upstream: Upstream
    work: Path
    gateway_log: str

    def story(self):
        """For whoever reads a failure."""
        lines = [f"status {self.ended.status}", "-- agent says", self.ended.out, "-- agent complains", self.ended.err[-4000:]]
        lines += ["-- gateway", self.gateway_log[-4000:], "-- asked of the outside", str(self.upstream.outside), "-- upstream saw"]
        for request in self.upstream.requests:
            kind = "session" if request.is_session else "beside"
            lines.append(f"{request.path} {kind} {request.fault} tools={list(request.asked.tools) if request.asked else None} refused={request.refused}")
        return "\n".join(lines)


@pytest.fixture
def play(tmp_path):
    """Runs an agent's session through a gateway of its own; everything stays in the test's directory."""
    closing = []

    def run(agent, vendor, script, with_ids=True, model=None, args=(), has_notes=False):
        up_model = {**UP_MODELS, **({} if with_ids else NO_IDS), **(NEWEST if model and model == agent.newest else {})}[vendor]
        model = model or agent.model
        upstream = Upstream(vendor, script(tmp_path / "work"), with_ids)
        closing.append(upstream.close)
        family = model.split("-")[0]
        (tmp_path / "gate.yaml").write_text(CONFIG.format(vendor=vendor, type=TYPES[vendor], url=upstream.url, family=family, model=up_model))
        env = {"ADMIN_KEY": "pg-admin-for-agents", "PATH": os.environ.get("PATH", "")}
        with (tmp_path / "gateway.log").open("w") as log:
            gateway = subprocess.Popen([BINARY, "--port", "0", "-c", "gate.yaml"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        closing.append(lambda: (gateway.kill(), gateway.wait()))
        line = next((line for line in gateway.stdout if "http://" in line), None)
        assert line, (tmp_path / "gateway.log").read_text()
        url = "http://" + line.split("http://")[1].split()[0].rstrip(".")
        ended = agent.run(url, upstream.url, tmp_path, model, args, has_notes)
        seen = [dataclasses.asdict(request) for request in upstream.requests]
        (tmp_path / "upstream.json").write_text(json.dumps({"outside": upstream.outside, "requests": seen}, indent=1))
        return Run(agent, ended, upstream, tmp_path / "work", (tmp_path / "gateway.log").read_text())

    yield run
    for close in reversed(closing):
        close()
