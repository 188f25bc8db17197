"""The Kubernetes manifests, as kustomize puts them together: held to Kubernetes' own schemas, to one another and to the image."""

import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from conftest import BINARY
from files import DEPLOY, load, seconds, size

KUBERNETES = DEPLOY / "kubernetes"
VARIANTS = ["base", "without-volumes"]
# The oldest that has all that is used (a preStop that sleeps), and the newest that is known.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]

# The most that the gateway needs when its streams are over: the ledger, limits and kept answers.
END = 14

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here, which has kustomize")


class Manifests:
    def __init__(self, variant):
        said = subprocess.run(["kubectl", "kustomize", KUBERNETES / variant], capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        self.documents = list(yaml.safe_load_all(said.stdout))
        self.template = self.one("StatefulSet")["spec"]["template"]
        self.pod = self.template["spec"]
        (self.container,) = self.pod["containers"]
        self.config = yaml.safe_load(self.one("ConfigMap")["data"]["config.yaml"])

    def all(self, kind):
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind):
        (document,) = self.all(kind)
        return document

    def ports(self):
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}


@pytest.fixture(scope="module", params=VARIANTS)
def manifests(request):
    return Manifests(request.param)


def secret():
    (document,) = load(KUBERNETES / "secret.example.yaml")
    return document


@pytest.mark.parametrize("version", VERSIONS)
def test_they_are_what_kubernetes_takes(manifests, version):
    for document in [*manifests.documents, secret()]:
        kubernetes_validate.validate(document, version, strict=True)


def test_unknown_fields_are_none(manifests):
    document = yaml.safe_load(yaml.safe_dump(manifests.one("StatefulSet")))
    document["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_every_file_is_applied():
    said = load(KUBERNETES / "base/kustomization.yaml")[0]
    files = {path.name for path in (KUBERNETES / "base").iterdir()}
    generated = {file for generator in said["configMapGenerator"] for file in generator["files"]}
    assert files == {*said["resources"], *generated, "kustomization.yaml"}


def test_all_are_of_one_namespace(manifests):
    name = manifests.one("Namespace")["metadata"]["name"]
    others = [document for document in manifests.documents if document["kind"] != "Namespace"]
    assert {document["metadata"]["namespace"] for document in [*others, secret()]} == {name}


def test_the_pod_passes_the_restricted_standard(manifests):
    assert manifests.one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod, container = manifests.pod["securityContext"], manifests.container["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["readOnlyRootFilesystem"] is True
    kinds = {kind for volume in manifests.pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "secret", "projected", "persistentVolumeClaim"}
    assert not any(manifests.pod.get(name) for name in ["hostNetwork", "hostPID", "hostIPC"])


def test_it_runs_as_the_image_s_user(manifests, image):
    said = manifests.pod["securityContext"]
    assert (said["runAsUser"], said["runAsGroup"], said["fsGroup"]) == (image.user, image.group, image.group)


def test_the_cluster_s_variables_do_not_hide_the_gateway_s(manifests):
    # For a service called polygate it would set POLYGATE_PORT=tcp://…, which is one of ours.
    assert "polygate" in {service["metadata"]["name"] for service in manifests.all("Service")}
    assert manifests.pod["enableServiceLinks"] is False


def test_selectors_find_the_pods(manifests):
    labels = manifests.template["metadata"]["labels"].items()
    selectors = [service["spec"]["selector"] for service in manifests.all("Service")]
    selectors += [manifests.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    selectors += [manifests.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
    selectors += [manifests.one("StatefulSet")["spec"]["selector"]["matchLabels"]]
    selectors += [spread["labelSelector"]["matchLabels"] for spread in manifests.pod["topologySpreadConstraints"]]
    for selector in selectors:
        assert selector and selector.items() <= labels, selector


def test_ports_agree(manifests, image):
    ports = manifests.ports()
    assert set(ports.values()) == {image.port}
    for name in ["startupProbe", "livenessProbe", "readinessProbe"]:
        assert manifests.container[name]["httpGet"]["port"] in ports, name
    for service in manifests.all("Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    (rule,) = manifests.one("NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} <= set(ports)
    scraped = manifests.template["metadata"]["annotations"]
    assert (scraped["prometheus.io/port"], scraped["prometheus.io/path"]) == (str(image.port), "/metrics")


def test_names_that_are_referred_to_are_there(manifests):
    services = {service["metadata"]["name"]: service["spec"] for service in manifests.all("Service")}
    stateful = manifests.one("StatefulSet")
    assert services[stateful["spec"]["serviceName"]]["clusterIP"] == "None"
    assert manifests.pod["serviceAccountName"] == manifests.one("ServiceAccount")["metadata"]["name"]
    target = manifests.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert [target["apiVersion"], target["kind"], target["name"]] == [
        stateful["apiVersion"], stateful["kind"], stateful["metadata"]["name"],
    ]
    assert [said["secretRef"]["name"] for said in manifests.container["envFrom"]] == [secret()["metadata"]["name"]]
    for path in paths(manifests):
        said = path["backend"]["service"]
        assert said["port"]["name"] in {port["name"] for port in services[said["name"]]["ports"]}


def test_what_is_mounted_is_there(manifests, image):
    volumes = {volume["name"]: volume for volume in manifests.pod["volumes"]}
    claims = {claim["metadata"]["name"]: claim for claim in manifests.one("StatefulSet")["spec"].get("volumeClaimTemplates", [])}
    assert not set(volumes) & set(claims)
    mounts = {mount["name"]: mount["mountPath"] for mount in manifests.container["volumeMounts"]}
    assert set(mounts) == set(volumes) | set(claims)
    assert mounts["data"] == image.environment["POLYGATE_DATA_DIR"]
    assert volumes["config"]["configMap"]["name"] == manifests.one("ConfigMap")["metadata"]["name"]
    variables = {said["name"]: said["value"] for said in manifests.container["env"]}
    assert variables["POLYGATE_CONFIG"] == f"{mounts['config']}/config.yaml"


def test_the_log_has_room(manifests):
    most = size(manifests.config.get("ledger", {}).get("max_bytes", "8GiB"))
    stateful = manifests.one("StatefulSet")["spec"]
    for claim in stateful.get("volumeClaimTemplates", []):
        assert size(claim["spec"]["resources"]["requests"]["storage"]) > most
    for volume in manifests.pod["volumes"]:
        if volume["name"] == "data":
            assert size(volume["emptyDir"]["sizeLimit"]) > most


def test_volumes_outlive_pods_but_where_there_are_none():
    stateful = Manifests("base").one("StatefulSet")["spec"]
    assert [claim["metadata"]["name"] for claim in stateful["volumeClaimTemplates"]] == ["data"]
    assert set(stateful["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    assert "volumeClaimTemplates" not in Manifests("without-volumes").one("StatefulSet")["spec"]


def test_time_is_left_for_streams(manifests):
    server = manifests.config["server"]
    sleep = manifests.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    streams = seconds(server["shutdown_grace"])
    assert streams >= 600
    needed = sleep + seconds(server["shutdown_delay"]) + streams + END
    assert manifests.pod["terminationGracePeriodSeconds"] >= needed
    # Readiness is seen to fail before connections are refused.
    probe = manifests.container["readinessProbe"]
    assert seconds(server["shutdown_delay"]) > probe["periodSeconds"] * probe["failureThreshold"]


def test_a_slow_start_is_no_death(manifests):
    probe = manifests.container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60
    assert manifests.container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert manifests.container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def test_there_are_several_and_never_none(manifests):
    spec = manifests.one("HorizontalPodAutoscaler")["spec"]
    budget = manifests.one("PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert spec["minReplicas"] >= 2 and spec["minReplicas"] - budget >= 1
    # A number here would be set again with each apply, against the autoscaler.
    assert "replicas" not in manifests.one("StatefulSet")["spec"]
    assert "cpu" in manifests.container["resources"]["requests"], "of which the autoscaler takes its percentage"
    assert manifests.one("HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300


def paths(manifests):
    return [path for rule in manifests.one("Ingress")["spec"]["rules"] for path in rule["http"]["paths"]]


def test_the_ingress_lets_long_and_large_calls_through(manifests):
    prefix = "nginx.ingress.kubernetes.io/"
    said = {name.removeprefix(prefix): value for name, value in manifests.one("Ingress")["metadata"]["annotations"].items()}
    assert int(said["proxy-read-timeout"]) >= 600 and int(said["proxy-send-timeout"]) >= 600
    assert size(said["proxy-body-size"]) == size(manifests.config["server"]["body_limit"]) >= 100 << 20
    assert said["proxy-buffering"] == said["proxy-request-buffering"] == "off"


def test_the_world_sees_models_alone(manifests):
    assert {path["path"] for path in paths(manifests)} == {"/v1", "/v1beta"}
    assert {path["pathType"] for path in paths(manifests)} == {"Prefix"}
    hosts = {host for tls in manifests.one("Ingress")["spec"]["tls"] for host in tls["hosts"]}
    assert hosts == {rule["host"] for rule in manifests.one("Ingress")["spec"]["rules"]}


def test_providers_and_databases_can_be_reached(manifests):
    egress = manifests.one("NetworkPolicy")["spec"]["egress"]
    assert {port["port"] for rule in egress for port in rule["ports"]} >= {53, 443, 5432, 6379}


def checked(tmp_path, environment):
    """What the binary says to the configuration."""
    (tmp_path / "config.yaml").write_text(Manifests("base").one("ConfigMap")["data"]["config.yaml"])
    return subprocess.run([BINARY, "check", "config.yaml"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)


SECRET = {"ADMIN_KEY": "an-admin-key-of-ours", "POLYGATE_SECRET_KEY": "a-secret-key-of-ours", "DB_URL": "postgres://p:p@database/p"}


def test_the_gateway_takes_its_configuration_and_wants_keys_of_all(tmp_path):
    said = checked(tmp_path, SECRET | {"OPENAI_API_KEY": "sk-of-somebody"})
    assert said.returncode == 0, said.stderr
    assert "openai (openai)" in said.stdout and "grace 600s after a delay of 15s" in said.stdout
    assert "no key of callers is enabled: every call is refused" in said.stdout


@pytest.mark.parametrize("name", ["ADMIN_KEY", "POLYGATE_SECRET_KEY"])
def test_the_example_of_a_secret_starts_nothing(tmp_path, name):
    example = secret()["stringData"]
    assert set(example) == set(SECRET) and example[name] == ""
    said = checked(tmp_path, SECRET | {name: example[name]})
    assert said.returncode == 78 and name in said.stderr
