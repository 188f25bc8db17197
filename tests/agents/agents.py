"""The agents: how each is started, and which of its tools write and read a file."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from upstream import Use

HERE = Path(__file__).parent
INSTALLED = HERE.parent.parent / ".test" / "agents"
MODULES = INSTALLED / "node_modules"
PROMPT = "Write polygate-42 into out.txt, read it back, and say when you are done."
TIMEOUT = 120
# A red dot, PNG.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKklEQVR42mN4oKBAU8QwasGoBaMWjFowasGoBaMWjFowasGoBaMWDBULAKWUgD269a5MAAAAAElFTkSuQmCC"


def install():
    """npm's packages, exactly those of the lock file."""
    have, want = INSTALLED / "installed-lock.json", HERE / "package-lock.json"
    if have.is_file() and have.read_bytes() == want.read_bytes():
        return
    INSTALLED.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, INSTALLED / name)
    # No install scripts: the native programs are in packages of their own, and are started from there.
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=INSTALLED, check=True)
    shutil.copy(want, have)


def native(pattern):
    """The program in the package for this platform; `None` where npm has none for it."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())
    found = sorted(MODULES.glob(pattern.format(system=platform.system().lower(), machine=machine)))
    return str(found[0]) if found else None


@dataclass
class Ended:
    status: int
    out: str
    err: str


class Agent:
    """One agent: its own format, the models it may ask for, its program, and its calls."""

    newest = None
    keeps_ids = True

    def write_newest(self, work):
        return self.write(work)

    def read_newest(self, work):
        return self.read(work)

    def paint(self, work):
        """Makes a picture."""
        use = self.write(work)
        name = next(name for name, value in use.given.items() if "polygate-42" in value)
        return Use(use.tool, {**use.given, name: f"echo {PICTURE} | base64 -d > dot.png && echo polygate-42 > out.txt"})

    def find_note(self):
        """Calls by which the tool of `notes.py` is found, where it is not simply there."""
        return ()

    def run(self, gateway, outside, directory, model, more_args, has_notes):
        """One session in a new HOME and a new directory; whatever is not on loopback goes to `outside`, which refuses."""
        home, work = directory / "home", directory / "work"
        home.mkdir()
        work.mkdir()
        env = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
        env |= {"HOME": str(home), "TMPDIR": str(directory), "CI": "1", "NO_COLOR": "1"}
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            env |= {name: outside, name.lower(): outside}
        env |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        notes = {"command": sys.executable, "args": [str(HERE / "notes.py"), str(work / "out.txt")]} if has_notes else None
        args, more = self.start(gateway, home, model, notes)
        with (directory / "agent.out").open("w+") as out, (directory / "agent.err").open("w+") as err:
            child = subprocess.Popen([*args, *more_args], cwd=work, env=env | more, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
            try:
                status = child.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                status = "timeout"
            finally:
                # Its whole group, which is of this session only.
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                child.wait()
        return Ended(status, (directory / "agent.out").read_text(), (directory / "agent.err").read_text())


class ClaudeCode(Agent):
    format = "anthropic"
    model = "claude-sonnet-4-5"
    newest = "claude-sonnet-5"

    def program(self):
        return native("@anthropic-ai/claude-code-{system}-{machine}/claude")

    def start(self, gateway, home, model, notes):
        args = [self.program(), "-p", PROMPT, "--model", model, "--allowedTools", "Bash,Read,Write,mcp__notes"]
        if notes:
            args += ["--mcp-config", json.dumps({"mcpServers": {"notes": notes}})]
        env = {"ANTHROPIC_BASE_URL": gateway, "ANTHROPIC_API_KEY": "sk-agent", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
        return args, env

    def write(self, work):
        return Use("Bash", {"command": "echo polygate-42 > out.txt", "description": "Write the file"})

    def write_file(self, work):
        return Use("Write", {"file_path": str(work / "out.txt"), "content": "polygate-42\n"})

    def read(self, work):
        return Use("Read", {"file_path": str(work / "out.txt")})

    def read_too(self, work):
        return Use("Bash", {"command": "cat out.txt", "description": "Show the file"})

    def look(self, work):
        return Use("Read", {"file_path": str(work / "dot.png")})

    def miss(self, work):
        return Use("Read", {"file_path": str(work / "missing.txt")})


class Codex(Agent):
    format = "responses"
    model = "gpt-5.5"
    newest = "gpt-6.1-sol"

    def program(self):
        return native("@openai/codex-{system}-{machine}/vendor/*/bin/codex")

    def find_note(self):
        return (Use("tool_search", {"query": "keep a note"}),)

    def start(self, gateway, home, model, notes):
        (home / ".codex").mkdir()
        provider = f'{{name="gateway",base_url="{gateway}/v1",env_key="OPENAI_API_KEY",wire_api="responses"}}'
        args = [self.program(), "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--color", "never", "-c", "analytics.enabled=false", "-c", "check_for_update_on_startup=false"]
        args += ["-c", f"model={model}", "-c", "model_provider=gateway", "-c", f"model_providers.gateway={provider}", PROMPT]
        for name, value in (notes or {}).items():
            args += ["-c", f"mcp_servers.notes.{name}={json.dumps(value)}"]
        return args, {"OPENAI_API_KEY": "sk-agent"}

    def write(self, work):
        return Use("exec_command", {"cmd": "echo polygate-42 > out.txt"})

    def write_file(self, work):
        return self.write(work)

    def write_newest(self, work):
        return Use("exec", 'const it = await tools.exec_command({cmd: "echo polygate-42 > out.txt"});\ntext(it.output);')

    def read_newest(self, work):
        return Use("exec", 'const it = await tools.exec_command({cmd: "cat out.txt"});\ntext(it.output);')

    def patch(self, work):
        return Use("apply_patch", "*** Begin Patch\n*** Add File: out.txt\n+polygate-42\n*** End Patch")

    def read(self, work):
        return Use("exec_command", {"cmd": "cat out.txt"})

    def read_too(self, work):
        return Use("exec_command", {"cmd": "cat < out.txt"})

    def look(self, work):
        return Use("view_image", {"path": str(work / "dot.png")})

    def miss(self, work):
        return Use("exec_command", {"cmd": "cat missing.txt"})


class GeminiCli(Agent):
    format = "gemini"
    model = "gemini-2.5-pro"
    newest = "gemini-3.1-pro-preview"

    def program(self):
        return str(MODULES / "@google/gemini-cli/bundle/gemini.js") if (MODULES / "@google/gemini-cli/bundle/gemini.js").is_file() and shutil.which("node") else None

    def start(self, gateway, home, model, notes):
        settings = {
            "mcpServers": {"notes": notes} if notes else {},
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {"enabled": False},
            "general": {"enableAutoUpdate": False, "disableAutoUpdate": True, "disableUpdateNag": True, "enableAutoUpdateNotification": False},
        }
        (home / ".gemini").mkdir()
        (home / ".gemini" / "settings.json").write_text(json.dumps(settings))
        args = ["node", self.program(), "-m", model, "-p", PROMPT, "--yolo"]
        return args, {"GEMINI_API_KEY": "sk-agent", "GOOGLE_GEMINI_BASE_URL": gateway, "GEMINI_CLI_TRUST_WORKSPACE": "true"}

    def write(self, work):
        return Use("run_shell_command", {"command": "echo polygate-42 > out.txt", "description": "Write the file"})

    def write_file(self, work):
        return Use("write_file", {"file_path": str(work / "out.txt"), "content": "polygate-42\n"})

    def read(self, work):
        return Use("read_file", {"file_path": str(work / "out.txt")})

    def read_too(self, work):
        return Use("run_shell_command", {"command": "cat out.txt", "description": "Show the file"})

    def look(self, work):
        return Use("read_file", {"file_path": str(work / "dot.png")})

    def miss(self, work):
        return Use("read_file", {"file_path": str(work / "missing.txt")})


class OpenCode(Agent):
    """It speaks every format, each by a client of its own."""

    MODELS = {"anthropic": "claude-sonnet-4-5", "chat": "gpt-5.1", "responses": "gpt-5.1", "gemini": "gemini-3-pro-preview"}
    CLIENTS = {"anthropic": "@ai-sdk/anthropic", "chat": "@ai-sdk/openai-compatible", "responses": "@ai-sdk/openai", "gemini": "@ai-sdk/google"}

    def __init__(self, format):
        self.format = format
        self.model = self.MODELS[format]
        # Its client of Gemini's sends none back.
        self.keeps_ids = format != "gemini"

    def program(self):
        return native("opencode-{system}-{machine}/bin/opencode")

    def start(self, gateway, home, model, notes):
        base = f"{gateway}/{'v1beta' if self.format == 'gemini' else 'v1'}"
        can = {"tool_call": True, "attachment": True, "reasoning": True, "modalities": {"input": ["text", "image"], "output": ["text"]}}
        settings = {
            "provider": {"gate": {"npm": self.CLIENTS[self.format], "options": {"baseURL": base, "apiKey": "sk-agent"}, "models": {model: can}}},
            "model": f"gate/{model}",
            "small_model": f"gate/{model}",
            "permission": "allow",
            "autoupdate": False,
            "share": "disabled",
        }
        directory = home / ".config" / "opencode"
        directory.mkdir(parents=True)
        (directory / "opencode.json").write_text(json.dumps(settings))
        return [self.program(), "run", "-m", f"gate/{model}", PROMPT], {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}

    def write(self, work):
        return Use("bash", {"command": "echo polygate-42 > out.txt", "description": "Write the file"})

    def write_file(self, work):
        # For some models it has one tool for files, for others another.
        return self.write(work)

    def read(self, work):
        return Use("read", {"filePath": str(work / "out.txt")})

    def read_too(self, work):
        return Use("bash", {"command": "cat out.txt", "description": "Show the file"})

    def look(self, work):
        return Use("read", {"filePath": str(work / "dot.png")})


FORMATS = ("anthropic", "chat", "responses", "gemini")
AGENTS = {"claude-code": ClaudeCode(), "codex": Codex(), "gemini-cli": GeminiCli()}
AGENTS |= {f"opencode-{format}": OpenCode(format) for format in FORMATS}
