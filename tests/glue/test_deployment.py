"""What infra/ says, read by those that will read it where they can be had here: Docker Compose, hadolint, Terraform, Dagster's
Kubernetes launcher and the Kubernetes models.

Not run here: building the image and starting containers (no registry can be reached), `helm template` (neither Helm nor the
chart is a package; keys are held against a list reviewed by hand, chart_keys.yaml), `terraform validate` (needs the AWS provider).
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import hcl2
import pytest
import sqlalchemy
import yaml
from dagster._config import process_config
from dagster_aws.s3 import S3ComputeLogManager
from dagster_k8s import K8sRunLauncher
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes import client as kubernetes

from assets.definitions import defs
from routing_pipeline.cli.main import app

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
ENVIRONMENT = {"DAGSTER_PG_PASSWORD": "made-up", "ROUTING_PIPELINE_LOGS": "s3://bucket/prefix"}
"""The two settings that have no default."""
EVERYWHERE = "0.0.0.0"  # noqa: S104  (inside a container)


def text(*path: str) -> str:
    return INFRA.joinpath(*path).read_text(encoding="utf-8")


def program(*names: str) -> str:
    """A program of this environment or of the machine; without it the test is skipped."""
    for name in names:
        found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if found is not None:
            return found
    pytest.skip(f"needs {names[0]}")


def is_pinned(image: str) -> bool:
    """A digest, or a tag that names a release to its last part."""
    return "@sha256:" in image or re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z0-9.-]+)?$", image) is not None


# The image


def dockerfile() -> list[tuple[str, str]]:
    """Instructions with their arguments, in order."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text("Dockerfile")))
    return [(word.upper(), rest.strip()) for line in joined.splitlines() if line.strip() for word, _, rest in [line.strip().partition(" ")]]


def instructions(*words: str) -> list[str]:
    return [rest for word, rest in dockerfile() if word in words]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run(
        [program("hadolint"), "--failure-threshold", "style", str(INFRA / "Dockerfile")], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode()


def test_the_image_rests_on_exact_releases_and_runs_as_nobody_in_particular() -> None:
    stages = [each.split() for each in instructions("FROM")]
    assert len(stages) >= 3, "what builds does not run"
    assert [image for image, *_ in stages if not is_pinned(image)] == []
    python = {image for image, *_ in stages if image.startswith("python:")}
    assert len(python) == 1, "the environment is built by the Python that runs it"
    assert instructions("USER")[-1] == "10001:10001"
    assert instructions("HEALTHCHECK")
    assert instructions("ADD") == []
    assert not re.search(r"apt-get|curl |wget |sudo", text("Dockerfile"))


def test_no_secret_is_built_into_the_image_and_nothing_local_reaches_the_build() -> None:
    named = re.findall(r"[A-Z_]+(?==)", " ".join(instructions("ENV", "ARG")))
    assert [name for name in named if re.search("SECRET|TOKEN|PASSWORD|KEY", name)] == []
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert "*" in ignored
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {source for each in instructions("COPY") if "--from" not in each for source in each.split()[:-1]}
    assert copied == allowed, "what is copied is allowed into the build, and nothing else is"
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_image_holds_what_a_deployment_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in instructions("RUN"):
        extras = re.findall(r"--extra (\S+)", line)
        assert not extras or set(extras) == {"serve", "postgres", "alerts", "kubernetes"} <= set(project["optional-dependencies"])
    version = project["version"]
    assert f"routing-pipeline:{version}\n" in text("compose.yaml")
    assert f"tag: {version}\n" in text("helm", "values.yaml")
    for file in ("metrics.yaml", "live-page.yaml", "agents.yaml"):
        assert f"routing-pipeline:{version} " in text("kubernetes", file)


# Compose


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    """compose.yaml as Docker Compose itself resolves it, every profile included."""
    return json.loads(resolved(ENVIRONMENT).stdout)


def resolved(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    words = [*compose(), "-f", str(INFRA / "compose.yaml"), "--profile", "*", "config", "--format", "json"]
    return subprocess.run(words, check=False, capture_output=True, text=True, env={"PATH": os.environ["PATH"], "HOME": "/", **environment})


def compose() -> list[str]:
    """The program itself from its wheel (whose script loses the exit code), else the one of the machine."""
    wheel = importlib.util.find_spec("compose")
    if wheel is not None and wheel.origin is not None:
        return [str(Path(wheel.origin).with_name("docker-compose"))]
    return [program("docker-compose")]


def services(composed: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from composed["services"].items()


def test_there_is_everything_that_a_deployment_on_one_machine_is_made_of(composed: dict[str, Any]) -> None:
    always = {name for name, service in services(composed) if not service.get("profiles")}
    assert always == {"webserver", "daemon", "code", "postgres"}
    optional = {name: service["profiles"] for name, service in services(composed) if service.get("profiles")}
    assert optional == {
        "storage": ["storage"],
        "metrics": ["monitoring"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
        "intelligence-router": ["agents"],
        "cost-tracker": ["agents"],
        "live-page": ["live"],
    }


def test_every_container_is_confined(composed: dict[str, Any]) -> None:
    for name, service in services(composed):
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.get("cap_add"), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"]), name
        assert is_pinned(service["image"]), name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), f"{name} is reachable from other machines"
        assert not any("docker.sock" in str(each) for each in service.get("volumes", [])), name


def test_every_container_says_whether_it_is_well(composed: dict[str, Any]) -> None:
    for name, service in services(composed):
        # The image's own asks the web server.
        assert name == "webserver" or service["healthcheck"]["test"], name


def test_what_others_wait_for_is_there(composed: dict[str, Any]) -> None:
    names = {name for name, _ in services(composed)}
    for name, service in services(composed):
        assert set(service.get("depends_on", {})) <= names, name
        for mount in service.get("volumes", []):
            if mount["type"] == "volume":
                assert mount["source"] in composed["volumes"], name
            # Folders of the user: compose makes one that is not there.
            elif not mount["source"].endswith(("/config", "/logs")):
                assert Path(mount["source"]).exists(), name
    (server,) = (each["grpc_server"] for each in yaml.safe_load(text("workspace.yaml"))["load_from"])
    assert server["host"] in names
    assert composed["services"][server["host"]]["command"][-4:] == ["-p", str(server["port"]), "-m", "assets.definitions"]


def test_commands_of_the_containers_exist(composed: dict[str, Any]) -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback is not None}
    asked = {
        words[1]
        for _, service in services(composed)
        for line in [" ".join(service.get("command") or [])]
        for words in [match.split() for match in re.findall(r"routing-pipeline [a-z]+", line)]
    }
    assert asked == {"metrics", "mcp", "dashboard"} <= known
    installed = [shutil.which(name, path=str(Path(sys.executable).parent)) for name in ("dagster", "dagster-daemon", "dagster-webserver")]
    assert all(installed)


def test_a_missing_setting_is_one_clear_line() -> None:
    for name in ENVIRONMENT:
        done = resolved({other: value for other, value in ENVIRONMENT.items() if other != name})
        assert done.returncode != 0
        assert name in done.stderr
        assert "set it in .env" in done.stderr


def test_the_example_names_every_setting_and_no_other() -> None:
    asked = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text("compose.yaml")))
    named = set(re.findall(r"(?m)^([A-Z_]+)=", text("example.env")))
    assert asked == named
    secret = re.compile("PASSWORD|TOKEN|SECRET_ACCESS_KEY|ACCESS_KEY_ID|CATALOG")
    assert re.findall(rf"(?m)^[A-Z_]*(?:{secret.pattern})=.+$", text("example.env")) == [], "an example of a secret ends up in use"


def test_whoever_is_told_of_a_configuration_can_read_it(composed: dict[str, Any], values: dict[str, Any]) -> None:
    """Otherwise prices, budgets and the record of rule sets would differ between the report, the agents' answers and the metrics."""
    told = {name: service for name, service in services(composed) if "ROUTING_PIPELINE_CONFIG" in service.get("environment", {})}
    assert set(told) == {"code", "metrics", "intelligence-router", "cost-tracker", "live-page"}
    for name, service in told.items():
        assert "/etc/routing-pipeline" in {mount["target"] for mount in service["volumes"]}, name
    pods_told = {name: container["volumeMounts"] for name, _, container in pods(values) if name in {"code", "run"}}
    deployed = {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in manifests() if each["kind"] == "Deployment"}
    pods_told |= {name: pod["containers"][0]["volumeMounts"] for name, pod in deployed.items()}
    assert len(pods_told) == 6
    for name, mounts in pods_told.items():
        assert "/etc/routing-pipeline" in {mount["mountPath"] for mount in mounts}, name


def test_what_is_said_of_runs_at_once_is_so() -> None:
    at_once = yaml.safe_load(text("dagster.yaml"))["concurrency"]["runs"]["max_concurrent_runs"]
    assert at_once == 1
    assert "One run at a time" in text("compose.yaml")


def test_dagsters_own_settings_reach_those_that_open_its_instance(composed: dict[str, Any]) -> None:
    asked = set(re.findall(r"env: ([A-Z_]+)", text("dagster.yaml")))
    for name in ("webserver", "daemon", "code"):
        assert asked <= set(composed["services"][name]["environment"]), name


def test_dagster_finds_the_driver_of_its_database(values: dict[str, Any]) -> None:
    asked = yaml.safe_load(text("dagster.yaml"))["storage"]["postgres"]["postgres_db"]
    for scheme in (asked["scheme"], values["postgresql"]["postgresqlScheme"]):
        sqlalchemy.create_engine(f"{scheme}://user@127.0.0.1:{asked['port']}/database").dispose()


# What the code reads


def read_by_code() -> set[str]:
    """Variables of ours that the code reads: as texts, and as fields of the resources."""
    found: set[str] = set()
    for path in [*(ROOT / "routing_pipeline").rglob("*.py"), *(ROOT / "assets").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch("ROUTING_PIPELINE_[A-Z_]+[A-Z]", node.value):
                found.add(node.value)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "from_environment" and isinstance(node.args[0], ast.Constant):
                found.add(f"ROUTING_PIPELINE_{str(node.args[0].value).upper()}")
    return found


def named_in(*path: str) -> set[str]:
    return set(re.findall(r"ROUTING_PIPELINE_[A-Z_]*[A-Z]", INFRA.joinpath(*path).read_text(encoding="utf-8")))


def test_every_variable_that_infra_names_is_read_and_every_one_that_is_read_is_named() -> None:
    named = set().union(*(named_in(str(path.relative_to(INFRA))) for path in INFRA.rglob("*") if path.is_file()))
    assert named == read_by_code()
    documented = set(re.findall(r"`(ROUTING_PIPELINE_[A-Z_]+)`", (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")))
    assert named <= documented


# Kubernetes

CHART: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("chart_keys.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return yaml.safe_load(text("helm", "values.yaml"))


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: f"_{match[1].lower()}", name)


def launcher(values: dict[str, Any]) -> dict[str, Any]:
    return values["runLauncher"]["config"]["k8sRunLauncher"]


def test_the_chart_knows_every_key_that_is_set(values: dict[str, Any]) -> None:
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    daemon = values["dagsterDaemon"]
    sections = {name: values[name] for name in CHART if name in values} | {
        "values": values,
        "deployment": deployment,
        "k8sRunLauncher": launcher(values),
        "runMonitoring": daemon["runMonitoring"],
        "runRetries": daemon["runRetries"],
        "queuedRunCoordinator": daemon["runCoordinator"]["config"]["queuedRunCoordinator"],
        "s3ComputeLogManager": values["computeLogManager"]["config"]["s3ComputeLogManager"],
    }
    assert set(sections) == set(CHART)
    assert [f"{name}.{key}" for name, section in sections.items() for key in section if key not in CHART[name]] == []


def test_the_charts_version_is_that_of_dagster(values: dict[str, Any]) -> None:
    locked = re.search(r'name = "dagster"\nversion = "([^"]+)"', (ROOT / "uv.lock").read_text(encoding="utf-8"))
    assert locked is not None
    assert f"--version {locked[1]} " in text("helm", "values.yaml")


def test_dagsters_launcher_and_log_manager_take_what_the_chart_would_hand_them(values: dict[str, Any]) -> None:
    given = launcher(values)
    for_launcher = {
        "image_pull_policy": given["imagePullPolicy"],
        "load_incluster_config": given["loadInclusterConfig"],
        "service_account_name": values["global"]["serviceAccountName"],
        "dagster_home": values["global"]["dagsterHome"],
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "env_config_maps": [each["name"] for each in given["envConfigMaps"]],
        "env_secrets": [each["name"] for each in given["envSecrets"]],
        "fail_pod_on_run_failure": given["failPodOnRunFailure"],
        "run_k8s_config": {snake(name): config for name, config in given["runK8sConfig"].items()},
    }
    checked = process_config(K8sRunLauncher.config_type(), for_launcher)
    assert checked.success, checked.errors
    logs = {snake(name): value for name, value in values["computeLogManager"]["config"]["s3ComputeLogManager"].items()}
    checked = process_config(S3ComputeLogManager.config_type(), logs)
    assert checked.success, checked.errors


def pods(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Who, the pod's part, the container's part, as the chart puts them into a pod."""
    parts = (values["dagsterWebserver"], values["dagsterDaemon"], *values["dagster-user-deployments"]["deployments"])
    for name, part in zip(("webserver", "daemon", "code"), parts, strict=True):
        pod = {"volumes": part["volumes"], "securityContext": part["podSecurityContext"]}
        yield name, pod, {each: part[each] for each in ("securityContext", "resources", "volumeMounts")}
    config = launcher(values)["runK8sConfig"]
    yield "run", config["podSpecConfig"], config["containerConfig"]


def modelled(kind: Any, given: dict[str, Any]) -> Any:
    """By the Kubernetes models, which refuse names that they do not know."""
    return k8s_model_from_dict(kind, k8s_snake_case_dict(kind, given))


def test_pods_are_confined_and_have_room_to_write(values: dict[str, Any]) -> None:
    for name, pod, container in pods(values):
        spec = modelled(kubernetes.V1PodSpec, {**pod, "containers": [{"name": name, **container}]})
        assert_confined(name, spec)


def assert_confined(name: str, spec: Any) -> None:
    assert spec.security_context.run_as_non_root, name
    assert spec.security_context.run_as_user == 10001, name
    assert spec.security_context.seccomp_profile.type == "RuntimeDefault", name
    (container,) = spec.containers
    assert container.security_context.read_only_root_filesystem, name
    assert not container.security_context.allow_privilege_escalation, name
    assert container.security_context.capabilities.drop == ["ALL"], name
    assert container.resources.limits["memory"], name
    assert container.resources.requests["memory"], name
    volumes = {volume.name: volume for volume in spec.volumes}
    assert all(volume.config_map or volume.empty_dir.size_limit for volume in volumes.values()), name
    assert all(volume.config_map.optional for volume in volumes.values() if volume.config_map), name
    assert {mount.name for mount in container.volume_mounts} == set(volumes), name
    assert "/tmp" in {mount.mount_path for mount in container.volume_mounts}, name


def test_probes_ask_the_port_that_is_served(values: dict[str, Any]) -> None:
    server = values["dagsterWebserver"]
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        probe = modelled(kubernetes.V1Probe, {key: value for key, value in server[name].items() if key != "enabled"})
        assert probe.http_get.port == server["service"]["port"]


def test_no_value_is_a_secret_and_every_image_is_pinned(values: dict[str, Any]) -> None:
    def walked(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for key, each in value.items():
                yield from walked(each, f"{path}.{key}")
        elif isinstance(value, list):
            for each in value:
                yield from walked(each, path)
        else:
            yield path, value

    leaves = list(walked(values))
    assert [path for path, _ in leaves if re.search("(?i)(password|token|secretkey|accesskey)$", path)] == []
    assert all(re.match(r"\d+\.\d+", str(value)) for path, value in leaves if path.endswith("image.tag"))
    assert values["generatePostgresqlPasswordSecret"] is False


def manifests() -> Iterator[dict[str, Any]]:
    for path in sorted((INFRA / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def test_kubernetes_knows_the_manifests(values: dict[str, Any]) -> None:
    kinds = {"ConfigMap": kubernetes.V1ConfigMap, "Deployment": kubernetes.V1Deployment, "Service": kubernetes.V1Service}
    found: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for each in manifests():
        found[each["kind"]][each["metadata"]["name"]] = modelled(kinds[each["kind"]], each)
    ((settings, config),) = found["ConfigMap"].items()
    assert all(isinstance(value, str) for value in config.data.values())
    assert launcher(values)["envConfigMaps"] == [{"name": settings}]
    served = {"metrics", "live-page", "intelligence-router", "cost-tracker"}
    assert set(found["Deployment"]) == set(found["Service"]) == {f"routing-pipeline-{name}" for name in served}
    for name, deployment in found["Deployment"].items():
        pod, service = deployment.spec.template, found["Service"][name]
        assert_confined(name, pod.spec)
        (container,) = pod.spec.containers
        assert is_pinned(container.image)
        assert service.spec.selector == pod.metadata.labels == deployment.spec.selector.match_labels
        assert container.env_from[0].config_map_ref.name == settings
        served = {port.name: port.container_port for port in container.ports}
        assert {port.target_port for port in service.spec.ports} == set(served)
        assert any(str(port) in word for port in served.values() for word in container.args), name
        for probe in (container.readiness_probe, container.liveness_probe):
            assert (probe.http_get or probe.tcp_socket).port in served
            # MCP answers nothing but MCP.
            assert (probe.http_get is None) == ("mcp" in container.args), name


def test_what_others_can_reach_demands_a_token(composed: dict[str, Any]) -> None:
    """Each server refuses to start without one (tests/integration); what infra starts must hand it over."""
    tokens = {
        "metrics": "ROUTING_PIPELINE_METRICS_TOKEN",
        "mcp": "ROUTING_PIPELINE_MCP_TOKEN",
        "dashboard": "ROUTING_PIPELINE_DASHBOARD_TOKEN",
    }
    for name, service in services(composed):
        said = " ".join(service.get("command") or [])
        for command in re.findall(r"routing-pipeline ([a-z]+)", said):
            assert EVERYWHERE in said, name
            assert tokens[command] in service["environment"] or f"export {tokens[command]}" in said, name


# Terraform


@pytest.fixture(scope="module")
def terraform() -> dict[str, list[Any]]:
    """All files of the module together, by kind of block."""
    blocks: dict[str, list[Any]] = {}
    for path in sorted((INFRA / "terraform").glob("*.tf")):
        for kind, found in hcl2.loads(path.read_text(encoding="utf-8")).items():
            if not kind.startswith("__"):
                blocks.setdefault(kind, []).extend(found)
    return blocks


def plain(value: Any) -> Any:
    """Without the marks that the parser adds, and without quotes."""
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items() if not str(key).startswith("__")}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


def blocks(terraform: dict[str, list[Any]], kind: str) -> dict[str, Any]:
    """Blocks of one kind by `type.name`, or by name where they have no type."""
    found: dict[str, Any] = {}
    for block in plain(terraform[kind]):
        for first, rest in block.items():
            if kind in {"resource", "data"}:
                found |= {f"{first}.{name}": body for name, body in rest.items()}
            else:
                found[first] = rest
    return found


def test_terraform_is_formatted_as_terraform_would() -> None:
    done = subprocess.run(
        [program("terraform"), "fmt", "-check", "-diff", str(INFRA / "terraform")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_variables_are_declared_described_used_and_in_the_readme(terraform: dict[str, list[Any]]) -> None:
    declared = blocks(terraform, "variable")
    source = "".join(path.read_text(encoding="utf-8") for path in (INFRA / "terraform").glob("*.tf"))
    assert set(re.findall(r"\bvar\.(\w+)", source)) == set(declared)
    assert all(body["description"] and body["type"] for body in declared.values())
    readme = text("terraform", "README.md")
    assert [name for name in declared if f"`{name}`" not in readme] == []
    for body in blocks(terraform, "output").values():
        assert body["description"]


def test_what_is_referred_to_is_there(terraform: dict[str, list[Any]]) -> None:
    resources, data = blocks(terraform, "resource"), blocks(terraform, "data")
    source = "".join(path.read_text(encoding="utf-8") for path in (INFRA / "terraform").glob("*.tf"))
    for prefix, kind, name in re.findall(r"(?<![\w.])(data\.)?(aws_\w+)\.(\w+)", source):
        assert f"{kind}.{name}" in (data if prefix else resources)
    local = {name for block in plain(terraform["locals"]) for name in block}
    assert set(re.findall(r"\blocal\.(\w+)", source)) <= local


def test_the_bucket_is_closed_encrypted_versioned_and_cleans_up(terraform: dict[str, list[Any]]) -> None:
    resources = blocks(terraform, "resource")
    closed = resources["aws_s3_bucket_public_access_block.warehouse"]
    assert all(
        closed[name] is True for name in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    )
    (rule,) = resources["aws_s3_bucket_server_side_encryption_configuration.warehouse"]["rule"]
    assert rule["apply_server_side_encryption_by_default"][0]["sse_algorithm"] == "aws:kms"
    assert resources["aws_kms_key.warehouse"]["enable_key_rotation"] is True
    assert resources["aws_s3_bucket_versioning.warehouse"]["versioning_configuration"][0]["status"] == "Enabled"
    rules = resources["aws_s3_bucket_lifecycle_configuration.warehouse"]["rule"]
    # A lake whose current files expire is no lake: only what runs print may.
    expiring = [rule["filter"][0].get("prefix") for rule in rules if any("days" in each for each in rule.get("expiration", []))]
    assert expiring == ["${local.run_output}/"]
    assert resources["aws_s3_bucket.warehouse"]["lifecycle"][0]["prevent_destroy"] is True


def test_the_role_may_do_what_it_must_and_nothing_else(terraform: dict[str, list[Any]]) -> None:
    statements = blocks(terraform, "data")["aws_iam_policy_document.pipeline"]["statement"]
    allowed = {each["sid"]: each for each in statements}
    actions = [action for each in statements for action in each["actions"]]
    assert [action for action in actions if "*" in action] == []
    assert not any("*" in each["resources"] for each in statements if isinstance(each["resources"], list))
    assert allowed["ReadLogs"]["actions"] == ["s3:GetObject"], "the gateway's bucket is only ever read"
    assert allowed["ListLogs"]["condition"][0]["variable"] == "s3:prefix"
    assert "var.logs_bucket" not in json.dumps(allowed["ReadAndWriteOwn"])
    (deny,) = blocks(terraform, "data")["aws_iam_policy_document.bucket"]["statement"]
    assert deny["effect"] == "Deny"


def test_settings_of_terraform_are_settings_of_kubernetes(terraform: dict[str, list[Any]]) -> None:
    (settings,) = (each["data"] for each in manifests() if each["kind"] == "ConfigMap")
    assert set(blocks(terraform, "output")["settings"]["value"]) <= set(settings)


def asked_of_terraform() -> list[str]:
    """What pages tell people to type."""
    pages = (text("terraform", "README.md"), (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8"))
    return [line.partition("#")[0].strip() for page in pages for line in re.findall(r"(?m)^terraform output.*$", page)]


def test_outputs_are_asked_for_as_terraform_takes_it(terraform: dict[str, list[Any]], tmp_path: Path) -> None:
    asked = [line.split()[2:] for line in asked_of_terraform()]
    names = [[word for word in words if not word.startswith("-")] for words in asked]
    assert all(len(each) <= 1 for each in names), "terraform takes one name"
    assert {name for each in names for name in each} == {"settings", "role_arn", "bucket"} <= set(blocks(terraform, "output"))
    state = {"version": 4, "terraform_version": "1.9.0", "serial": 1, "lineage": "made-up", "resources": []}
    outputs = {"role_arn": "arn:aws:iam::1:role/a", "bucket": "a-bucket", "settings": "a setting"}
    state["outputs"] = {name: {"value": value, "type": "string"} for name, value in outputs.items()}
    (tmp_path / "terraform.tfstate").write_text(json.dumps(state), encoding="utf-8")
    for words in asked:
        done = subprocess.run([program("terraform"), "output", *words], check=False, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert all(outputs[word] in done.stdout for word in words if word in outputs)


# The licence


def test_the_licence_that_is_named_is_there_and_in_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert re.search(r"Copyright \d{4} The routing-pipeline authors", licence)
    assert "[yyyy]" not in licence
    # Without it the project does not build.
    assert all("LICENSE" in each for each in instructions("COPY") if "pyproject.toml" in each)


# The page


def test_the_readme_says_that_nothing_starts_by_itself_and_has_no_link_inside_a_listing() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listings = readme.split("```")[1::2]
    assert [listing for listing in listings if "](" in listing] == []
    assert "off until they are switched on" in readme
    defined = [*defs.schedules, *defs.sensors]
    assert {each.default_status.value for each in defined} == {"STOPPED"}
    assert [each.name for each in defined if f"`{each.name}`" not in readme] == []


def test_the_page_names_files_that_are_there_and_services_that_exist(composed: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    named = set(re.findall(r"infra/[\w./-]+\w", page)) - {"infra/.env", "infra/secrets", "infra/config"}
    made = ("infra/secrets/*", "infra/config/*", "infra/kubernetes/secret.env", "infra/terraform/terraform.tfvars")
    assert [path for path in sorted(named) if not (ROOT / path).exists() and not any(fnmatch(path, each) for each in made)] == []
    asked = set(re.findall(r"docker compose [^\n`]*?(?:exec|run --rm|logs|restart)(?: -\S+)* ([a-z-]+)", page))
    assert asked
    assert asked <= set(composed["services"])
