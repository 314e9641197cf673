"""A lookup of each provider and lane goes through the started containers, with the commands of docs/compose.md."""

import json

import pytest

from tests.containers.started import SERVICES, Containers

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]


def test_every_container_is_healthy_and_was_started_once(containers: Containers) -> None:
    found = {service: containers.inspect(service) for service in SERVICES}
    assert {service: each["State"]["Health"]["Status"] for service, each in found.items()} == dict.fromkeys(
        SERVICES, "healthy"
    )
    assert {each["RestartCount"] for each in found.values()} == {0}


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
@pytest.mark.parametrize(("provider", "reference"), [("opay", "OPAY_TOKEN_visa"), ("afterpay", "visa")])
def test_a_lookup_of_each_provider_and_lane_is_found(
    containers: Containers, provider: str, reference: str, lane: str
) -> None:
    command = ("run", "--rm", "cli", "lookup", provider, reference, "--lane", lane, "--json")
    found = json.loads(containers.compose(*command))
    assert (found["status"], found["provider"], found["token"]["brand"]) == ("found", provider, "visa")


def test_the_workers_image_is_built_once(containers: Containers) -> None:
    used = {containers.inspect(service)["Image"] for service in ("interactive", "bulk", "flower")}
    assert len(used) == 1
    tags = containers.docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    assert sorted(tag for tag in tags if tag.startswith("cardtoken")) == [
        "cardtoken-simulator:latest",
        "cardtoken-worker:latest",
    ]


def test_the_command_line_is_on_path_in_a_worker_and_is_told_what_its_user_may_not(containers: Containers) -> None:
    assert "consumes" in containers.compose("exec", "-T", "bulk", "cardtoken", "health")
    refused = containers.run("docker-compose", "exec", "-T", "bulk", "cardtoken", "lookup", "opay", "OPAY_TOKEN_visa")
    assert refused.returncode != 0
    assert "permission" in refused.stderr


def test_flower_wants_its_login(containers: Containers) -> None:
    asked = (
        "import base64, sys, urllib.request as u;"
        "login = {'Authorization': 'Basic ' + base64.b64encode(each.encode()).decode() for each in sys.argv[1:]};"
        "print(u.urlopen(u.Request('http://127.0.0.1:5555/api/workers', headers=login), timeout=20).status)"
    )
    without = containers.run("docker-compose", "exec", "-T", "flower", "python", "-c", asked)
    assert "401" in without.stderr
    login = containers.secret("flower_login")
    assert containers.compose("exec", "-T", "flower", "python", "-c", asked, login).strip() == "200"
