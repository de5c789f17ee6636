"""docker-compose.yml and the Dockerfile against the Compose specification, and against our code."""

import json
import re
import shlex
import subprocess
import sys
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from onthedot import duration
from onthedot.settings import Settings
from onthedot.temporal_server import SEARCH_ATTRIBUTES, TemporalServer

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("onthedot:")}
ONE_SHOTS = {"migrate", "temporal-schema", "temporal-namespace"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def example_environment() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolated(text: str, environment: dict[str, str]) -> str:
    """``text`` as Compose hands it over; raise LookupError where a required variable is empty."""

    def value(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        if environment.get(name):
            return environment[name]
        if operator == "?":
            raise LookupError(name)
        return word or ""

    return _VARIABLE.sub(value, text)


def settings_of(service: dict[str, Any], **environment: str) -> Settings:
    variables = {**dockerfile_environment(), **service["environment"]}
    filled = {**example_environment(), "ONTHEDOT_DB_PASSWORD": "ab12", **environment}
    return Settings.from_environment(
        {name: interpolated(text, filled) for name, text in variables.items()}
    )


def dockerfile_environment() -> dict[str, str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    words = [
        word for line in joined.splitlines() if line.startswith("ENV ") for word in line.split()
    ]
    return dict(re.findall(r"^(\w+)=(.*)", "\n".join(words), re.M))


def by_service(services: dict[str, dict[str, Any]] = SERVICES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", list(services))


def test_the_file_follows_the_compose_specification() -> None:
    folder = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((folder / "compose-spec.json").read_text())
    jsonschema.validate(COMPOSE, schema, cls=jsonschema.validators.validator_for(schema))


@by_service()
def test_each_image_is_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert re.match(r"v?\d+\.\d+", tag)


def test_server_and_tools_of_temporal_are_of_one_version() -> None:
    tags = {name: one["image"].split(":")[1] for name, one in SERVICES.items()}
    assert tags["temporal"] == tags["temporal-schema"] == tags["temporal-namespace"]


@by_service()
def test_each_service_waits_for_what_it_needs(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if other in ONE_SHOTS:
            assert how == {"condition": "service_completed_successfully"}
        else:
            assert how == {"condition": "service_healthy"}
            assert SERVICES[other]["healthcheck"]["test"]


@by_service()
def test_each_service_is_restarted_limited_and_logged_within_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("on-failure:5" if name in ONE_SHOTS else "unless-stopped")
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["logging"]["options"]["max-size"]


@by_service()
def test_ports_are_open_on_loopback_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_no_port_is_given_twice() -> None:
    ports = [port.split(":")[1] for one in SERVICES.values() for port in one.get("ports", [])]
    assert sorted(set(ports)) == sorted(ports)


@by_service()
def test_each_mounted_file_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        if source.startswith("./"):
            assert (ROOT / source).is_file()
            assert mode == ["ro"]
            service = SERVICES[name]
            words = [*service.get("entrypoint", []), *service.get("command", [])]
            named = [word.rpartition("=")[2] for word in words]
            named += service.get("environment", {}).values()
            by_others = target in PROMETHEUS["rule_files"] and name == "prometheus"
            found = target in named or target.startswith("/docker-entrypoint-initdb.d/")
            assert found or by_others
        else:
            assert source in COMPOSE["volumes"]


@by_service(OURS)
def test_each_command_exists(name: str) -> None:
    onthedot = Path(sys.executable).with_name("onthedot")
    command = [onthedot, *OURS[name]["command"], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@by_service(OURS)
def test_each_setting_exists_and_is_accepted(name: str) -> None:
    settings = settings_of(OURS[name])
    assert settings.database_url == "postgresql://onthedot:ab12@postgres:5432/onthedot"
    assert settings.temporal == "temporal:7233"


@by_service(OURS)
def test_what_is_said_in_the_environment_file_arrives(name: str) -> None:
    settings = settings_of(
        OURS[name], SHELL_TASKS="on", HANDLERS="reports:send", SECURE_COOKIES="on"
    )
    assert (settings.shell, settings.handlers) == (True, ("reports:send",))
    assert settings.secure_cookies


def test_the_environment_file_has_every_variable_and_no_other() -> None:
    assert {name for name, _, _ in _VARIABLE.findall(TEXT)} == set(example_environment())


@pytest.mark.parametrize(
    "name", ["POSTGRES_PASSWORD", "ONTHEDOT_DB_PASSWORD", "TEMPORAL_DB_PASSWORD"]
)
def test_a_password_is_required(name: str) -> None:
    others = {n: "ab12" for n in example_environment() if n != name}
    with pytest.raises(LookupError, match=name):
        interpolated(TEXT, others)


@pytest.mark.parametrize("name", ["web", "web-2"])
def test_the_web_app_listens_where_its_port_leads(name: str) -> None:
    settings = settings_of(SERVICES[name])
    (port,) = SERVICES[name]["ports"]
    assert port.endswith(f":{settings.port}")
    assert settings.host == "0.0.0.0"


def test_prometheus_asks_each_process_where_it_answers() -> None:
    jobs = {one["job_name"]: one for one in PROMETHEUS["scrape_configs"]}
    (of_web,) = jobs["onthedot-web"]["static_configs"]
    web = [name for name, one in OURS.items() if one["command"] == ["web"]]
    assert of_web["targets"] == [f"{name}:{settings_of(SERVICES[name]).port}" for name in web]
    (of_workers,) = jobs["onthedot-worker"]["dns_sd_configs"]
    settings = settings_of(SERVICES["worker"])
    assert (of_workers["names"], of_workers["port"]) == (["worker"], settings.metrics_port)
    assert settings.metrics_host == "0.0.0.0"
    assert "ports" not in SERVICES["worker"]


def test_a_worker_has_time_for_its_runs_when_it_stops() -> None:
    grace = duration.parse(SERVICES["worker"]["stop_grace_period"])
    assert grace >= settings_of(SERVICES["worker"]).shutdown_grace + timedelta(seconds=10)


def test_there_are_two_of_what_may_fail() -> None:
    assert {name for name in SERVICES if SERVICES[name].get("command") == ["web"]} == {
        "web",
        "web-2",
    }
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_the_namespace_gets_our_search_attributes() -> None:
    script = (ROOT / "deploy/temporal-namespace.sh").read_text()
    assert dict(re.findall(r"^ensure_attribute (\w+) (\w+)$", script, re.M)) == SEARCH_ATTRIBUTES


def test_the_cluster_has_the_limits_of_the_embedded_server() -> None:
    given = yaml.safe_load((ROOT / "deploy/temporal-dynamic-config.yaml").read_text())
    command = TemporalServer(file=Path("unused"), port=1).command()
    option = "--dynamic-config-value="
    wanted = dict(one.removeprefix(option).split("=") for one in command if one.startswith(option))
    for name in ("Read", "Write"):  # a cluster spreads a queue over partitions
        del wanted[f"matching.numTaskqueue{name}Partitions"]
    del wanted["history.shardIOConcurrency"]  # and has hundreds of shards, where that has one
    read = {name: json.loads(value) for name, value in wanted.items()}
    assert {name: value["value"] for name, (value,) in given.items()} == read


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").glob("*.sh")), ids=lambda s: s.name)
def test_each_script_can_be_parsed(script: Path) -> None:
    shell = script.read_text().split("\n", 1)[0].removeprefix("#!")
    subprocess.run([shell, "-n", script], check=True)


def test_the_image_is_built_from_what_is_there_and_not_ignored() -> None:
    sources = [
        source
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in shlex.split(line)[1:-1]
    ]
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert set(sources) == kept
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_runs_as_a_plain_user_with_a_health_check() -> None:
    lines = DOCKERFILE.splitlines()
    assert "USER onthedot" in lines
    assert lines.index("USER onthedot") < lines.index('ENTRYPOINT ["onthedot"]')
    assert f"EXPOSE {Settings.from_environment(dockerfile_environment()).port}" in lines
