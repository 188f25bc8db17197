"""The Compose installation: held to the specification's schema, to the image, and to what its own files say."""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from conftest import BINARY
from files import DEPLOY, ROOT, Unset, interpolated, load, seconds, size, variables

SCHEMA = ROOT / ".test/deploy/node_modules/dclint/schemas/compose.schema.json"
EXAMPLE = variables(DEPLOY / ".env.example")
SECRETS = ["ADMIN_KEY", "POLYGATE_SECRET_KEY", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD"]
FILLED = EXAMPLE | {name: f"a-{name.lower()}-of-twenty" for name in SECRETS}
TEXT = load(DEPLOY / "compose.yaml")[0]
COMPOSE = interpolated(TEXT, FILLED)
SERVICES = COMPOSE["services"]
CONFIG = load(DEPLOY / "compose/polygate/config.yaml")[0]

# The most that the gateway needs when its streams are over: the ledger, limits and kept answers.
END = 14


@pytest.fixture(scope="module")
def schema():
    return jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("document", [TEXT, COMPOSE], ids=["written", "interpolated"])
def test_it_is_a_compose_file(schema, document):
    assert [f"{error.json_path}: {error.message}" for error in schema.iter_errors(document)] == []


def test_the_schema_knows_no_other_keys(schema):
    wrong = {**COMPOSE, "services": {**SERVICES, "polygate": {**SERVICES["polygate"], "read_olny": True}}}
    assert not schema.is_valid(wrong)


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_starts_with_the_example_s_secrets(name):
    assert EXAMPLE[name] == ""
    with pytest.raises(Unset, match=f"^{name}$"):
        interpolated(TEXT, FILLED | {name: EXAMPLE[name]})


def test_the_example_has_every_variable():
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert used - {"POLYGATE_COMMIT"} == set(EXAMPLE)


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_of_a_version(service):
    tag = SERVICES[service]["image"].rsplit(":", 1)[1]
    assert re.match(r"v?\d+\.\d+", tag), tag


@pytest.mark.parametrize("service", SERVICES)
def test_services_are_confined(service):
    said = SERVICES[service]
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert not said.get("privileged")
    assert said["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_mounted_is_there(service):
    for mount in SERVICES[service]["volumes"]:
        source, _, *mode = mount.split(":")
        if source.startswith("."):
            assert (DEPLOY / source).is_dir() and mode == ["ro"], mount
        else:
            assert source in COMPOSE["volumes"], mount


def test_volumes_and_networks_are_used():
    mounts = {mount.split(":")[0] for said in SERVICES.values() for mount in said["volumes"]}
    assert set(COMPOSE["volumes"]) <= mounts
    assert {network for said in SERVICES.values() for network in said["networks"]} == set(COMPOSE["networks"])


def test_databases_are_within_reach_of_nobody_else():
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for service in ["postgres", "redis", "prometheus"]:
        assert SERVICES[service]["networks"] == ["inside"] and "ports" not in SERVICES[service]
    for service in ["polygate", "grafana"]:
        assert SERVICES[service]["ports"][0].startswith("127.0.0.1:")


def test_who_is_waited_for_has_a_health_check():
    for said in SERVICES.values():
        for other, when in said.get("depends_on", {}).items():
            assert when["condition"] == "service_healthy" and "healthcheck" in SERVICES[other]
    assert set(SERVICES["polygate"]["depends_on"]) == {"postgres", "redis"}


def test_the_gateway_is_the_image(image):
    said = SERVICES["polygate"]
    assert (DEPLOY / said["build"]["context"]).resolve() == ROOT
    assert (ROOT / said["build"]["dockerfile"]).is_file()
    assert set(said["build"]["args"]) == {arg.split("=")[0] for arg in image.all("ARG")}
    assert said["ports"][0].rsplit(":", 1)[1] == str(image.port)
    assert f"data:{image.volumes[0]}" in said["volumes"]
    assert said["healthcheck"]["test"] == ["CMD", *image.health[0]]


def test_addresses_are_of_services():
    environment = SERVICES["polygate"]["environment"]
    user, password, host, database = re.fullmatch(r"postgres://(.+):(.+)@(.+)/(.+)", environment["DB_URL"]).groups()
    postgres = SERVICES[host]["environment"]
    assert (user, password, database) == tuple(postgres[f"POSTGRES_{name}"] for name in ["USER", "PASSWORD", "DB"])
    assert re.fullmatch(r"redis://(\w+):6379/0", environment["REDIS_URL"])[1] in SERVICES
    scraped = load(DEPLOY / "prometheus/prometheus.yml")[0]["scrape_configs"][0]["dns_sd_configs"][0]
    # Every address behind the name: each replica by itself.
    assert scraped == {"names": ["polygate"], "type": "A", "port": 8080}
    source = load(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")[0]["datasources"][0]
    assert re.fullmatch(r"http://(\w+):9090", source["url"])[1] in SERVICES


def test_time_is_left_for_streams():
    server = CONFIG["server"]
    needed = seconds(server.get("shutdown_delay", 0)) + seconds(server["shutdown_grace"]) + END
    assert seconds(SERVICES["polygate"]["stop_grace_period"]) > needed
    assert size(server["body_limit"]) >= 100 << 20


def started(tmp_path, environment):
    """What the binary says to it, without the services: how its command ends."""
    (tmp_path / "config.yaml").write_text((DEPLOY / "compose/polygate/config.yaml").read_text())
    return subprocess.run([BINARY, "check", "config.yaml"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)


def test_the_gateway_takes_its_configuration_and_wants_keys_of_all(tmp_path):
    environment = SERVICES["polygate"]["environment"] | {"OPENAI_API_KEY": "sk-of-somebody"}
    said = started(tmp_path, environment)
    assert said.returncode == 0, said.stderr
    assert "openai (openai)" in said.stdout and "'anthropic' is left out" in said.stdout
    # An empty list is not the same as none: nobody is served without a key, wherever the call seems to come from.
    assert "no key of callers is enabled: every call is refused" in said.stdout


@pytest.mark.parametrize("name", ["ADMIN_KEY", "POLYGATE_SECRET_KEY"])
@pytest.mark.parametrize("sample", ["", "changeme"])
def test_the_gateway_refuses_samples(tmp_path, name, sample):
    said = started(tmp_path, SERVICES["polygate"]["environment"] | {name: sample})
    assert said.returncode == 78 and name in said.stderr


def test_grafana_finds_what_is_provisioned():
    mounts = dict(mount.split(":")[1::-1] for mount in SERVICES["grafana"]["volumes"] if mount.startswith("."))
    provisioning = DEPLOY / mounts["/etc/grafana/provisioning"]
    (folder,) = [item["options"]["path"] for item in load(provisioning / "dashboards/polygate.yml")[0]["providers"]]
    dashboards = [json.loads(path.read_text()) for path in (DEPLOY / mounts[folder]).glob("*.json")]
    assert dashboards
    (source,) = load(provisioning / "datasources/prometheus.yml")[0]["datasources"]
    uids = {match for board in dashboards for match in re.findall(r'"type": "prometheus", "uid": "([^"]+)"', json.dumps(board))}
    assert uids == {source["uid"]}
    assert len({board["uid"] for board in dashboards}) == len(dashboards)


def test_prometheus_takes_its_files(tmp_path):
    promtool = ROOT / ".test/prometheus/usr/bin/promtool"
    if not promtool.exists():
        pytest.skip("no promtool here (./test unpacks it)")
    (mount,) = [mount for mount in SERVICES["prometheus"]["volumes"] if mount.startswith("./")]
    source, target, _ = mount.split(":")
    (config,) = [said.split("=")[1] for said in SERVICES["prometheus"]["command"] if said.startswith("--config.file=")]
    assert Path(config).parent == Path(target)
    # The rules lie elsewhere here than in the container.
    folder = tmp_path / "prometheus"
    folder.mkdir()
    for path in (DEPLOY / source).iterdir():
        (folder / path.name).write_text(path.read_text().replace(target, str(folder)))
    said = subprocess.run([promtool, "check", "config", folder / Path(config).name], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert re.search(r"[1-9]\d* rules found", said.stdout)


def test_yaml_says_no_key_twice():
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader, node):
        keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: {keys}"
        loader.flatten_mapping(node)
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    files = [path for path in DEPLOY.rglob("*") if path.suffix in {".yaml", ".yml"}]
    assert len(files) > 10
    for path in files:
        list(yaml.load_all(path.read_text(), Loader=Strict))
