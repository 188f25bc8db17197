"""What deploy/ has, read as its readers do."""

import re
import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

TIMES = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
SIZES = {"k": 10, "m": 20, "g": 30}


def load(path):
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def seconds(text):
    """`75s`, `1m15s`, `600`."""
    parts = re.findall(r"(\d+)(ms|s|m|h)?", str(text))
    return sum(int(number) * TIMES[unit or "s"] for number, unit in parts)


def size(text):
    """`100m` and `100MiB`, `8GiB` and `10Gi`: bytes."""
    number, unit = re.fullmatch(r"(\d+)([kmg])(?:i|ib)?", str(text).lower()).groups()
    return int(number) << SIZES[unit]


class Unset(Exception):
    """A variable that has to be set is not."""


def interpolated(value, variables):
    """Compose's variables: ${A}, ${A:-default}, ${A:?what to do}."""
    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def said(match):
        name, kind, word = match["name"], match["kind"], match["word"]
        if variables.get(name):
            return variables[name]
        if kind == ":?":
            raise Unset(name)
        return word or ""

    return re.sub(r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<word>[^}]*))?\}", said, value)


def variables(path):
    """Those of an .env file."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value for name, value in pairs}


def dockerfile(path=DEPLOY / "Dockerfile"):
    """Its stages: lists of instructions, each a word and what it says."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n", " ", text)
    stages = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(None, 1)
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


class Image:
    """What the last stage of the Dockerfile makes of a file tree."""

    def __init__(self):
        self.instructions = dockerfile()[-1]
        self.environment = dict(pair.split("=", 1) for said in self.all("ENV") for pair in shlex.split(said))
        self.labels = dict(pair.split("=", 1) for said in self.all("LABEL") for pair in shlex.split(said))
        user, group = self.one("USER").split(":")
        self.user, self.group = int(user), int(group)
        self.port = int(self.one("EXPOSE"))
        self.directory = self.one("WORKDIR")
        self.entrypoint = yaml.safe_load(self.one("ENTRYPOINT"))
        self.volumes = self.all("VOLUME")

    def all(self, word):
        return [said for found, said in self.instructions if found == word]

    def one(self, word):
        said = self.all(word)
        assert len(said) == 1, f"{word}: {said}"
        return said[0]

    @property
    def health(self):
        """The command of HEALTHCHECK, and its times."""
        times, command = self.one("HEALTHCHECK").split(" CMD ")
        options = dict(re.findall(r"--([\w-]+)=(\S+)", times))
        return yaml.safe_load(command), options
