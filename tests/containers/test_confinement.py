"""What a container may do and see: users, capabilities, file systems and secrets of the started containers."""

import json
from pathlib import Path

import pytest

from tests.containers.started import SERVICES, Containers
from tools.containers.project import DOLLARS

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

#: The files of deploy/secrets that each container sees.
SECRETS = {
    "redis": {f"{user}_password" for user in ("worker", "producer", "consumer", "operator", "flower")},
    "interactive": {"worker_redis_url", "provider_accounts.json", "sentry_dsn"},
    "bulk": {"worker_redis_url", "provider_accounts.json", "sentry_dsn"},
    "flower": {"flower_redis_url", "flower_login"},
    "simulator": set(),
}


@pytest.mark.parametrize("service", SERVICES)
def test_no_process_is_roots_or_can_become_it(containers: Containers, service: str) -> None:
    numbers = containers.processes(service)
    assert numbers
    for number, command in numbers.items():
        lines = Path(f"/proc/{number}/status").read_text(encoding="utf-8").splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split(), command
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}, command
        assert status["NoNewPrivs"] == "1", command


@pytest.mark.parametrize("service", SERVICES)
def test_a_root_file_system_is_read_only(containers: Containers, service: str) -> None:
    for path in ("/written", "/srv/written", "/tmp/written", "/etc/written"):  # noqa: S108 - of the container
        done = containers.run("docker", "exec", containers.container(service), "sh", "-c", f"echo > {path}")
        assert done.returncode != 0, path
    assert containers.inspect(service)["HostConfig"]["ReadonlyRootfs"]


@pytest.mark.parametrize("user", ["10001:10001", "999:999"])
def test_users_are_numbers_as_kubernetes_wants_them(containers: Containers, user: str) -> None:
    used = {service: containers.inspect(service)["Config"]["User"] for service in SERVICES}
    assert {service for service, each in used.items() if each == user} == (
        {"redis"} if user.startswith("999") else set(SERVICES) - {"redis"}
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_sees_its_own_secrets_and_no_other(containers: Containers, service: str) -> None:
    container = containers.container(service)
    # Sorted out here: a container that has no secrets has no such folder.
    listed = containers.docker("exec", container, "sh", "-c", "ls /run/secrets 2>/dev/null || true").split()
    assert set(listed) == SECRETS[service]
    seen = containers.docker(
        "exec", container, "sh", "-c", "env; cat /proc/1/environ /proc/1/cmdline /run/secrets/* || true"
    )
    foreign = {path.name for path in (containers.folder / "deploy/secrets").iterdir()} - SECRETS[service]
    own = "".join(containers.secret(name) for name in SECRETS[service])
    for name in foreign:
        value = containers.secret(name)
        # The address has the password in it.
        assert not value or value in own or value not in seen, name


def test_the_engine_and_the_images_know_no_secret(containers: Containers) -> None:
    told = "".join(json.dumps(containers.inspect(service)) for service in SERVICES)
    for image in ("cardtoken-worker", "cardtoken-simulator"):
        told += containers.docker("history", "--no-trunc", image) + containers.docker("inspect", image)
    values = [path.read_text(encoding="utf-8").strip() for path in (containers.folder / "deploy/secrets").iterdir()]
    passwords = [value for value in values if value and not value.startswith("{")]
    assert len(passwords) > 8
    for value in [*passwords, "OPAYPRV16160617080050.388604510744898", "merchantABC"]:
        assert value not in told


def test_a_dollar_in_a_secret_or_a_setting_is_kept(containers: Containers) -> None:
    program = (
        "from config.source import Source; from tasks.providers import PROVIDERS;"
        "models = {name: each.account for name, each in PROVIDERS.items()};"
        "found = Source(models).load().accounts['opay']['dollars'];"
        "print(found.private_key.get_secret_value(), found.code_overrides)"
    )
    overrides = '{"a$b": "found"}'
    told = containers.compose(
        *("run", "--rm", "--no-deps", "-T", "--entrypoint", "python", "bulk", "-c", program),
        more={"OPAY_CODE_OVERRIDES": overrides},
    )
    assert DOLLARS in told
    assert "a$b" in told


def test_an_image_has_neither_pip_nor_what_it_does_not_run(containers: Containers) -> None:
    program = (
        "import importlib.util as u; print([n for n in ('pip', 'hatchling', 'simulator', 'tests') if u.find_spec(n)])"
    )
    assert containers.compose("exec", "-T", "bulk", "python", "-c", program).strip() == "[]"
