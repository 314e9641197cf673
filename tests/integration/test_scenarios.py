"""Every magic reference of the simulator, through a real worker, its published result compared whole.

The expected results stand in ``scenarios.json``: what each provider's answer has to become, checked by hand against
what the simulator's page says that it sends.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import ROOT
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator

FIELD = {"opay": "opay_token", "afterpay": "original_request_id"}
SCENARIOS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("scenarios.json").read_text())
MAX_ATTEMPTS = 3


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Service]:
    """Short timeouts, so that what hangs does not take long, and a provider that no other test has called.

    Not too many at once: where two cores play all the parts, a crowd would time out what is not meant to.
    """
    limits = {"HTTP_READ_TIMEOUT": "2", "HTTP_TOTAL_TIMEOUT": "2.5", "RETRY_MAX_ATTEMPTS": str(MAX_ATTEMPTS)}
    with Simulator() as simulator:
        service = Service(redis_server, simulator, **limits)
        service.redis.flushall()
        with service.worker("-c", "12"):
            yield service


@pytest.fixture(scope="module")
def results(service: Service) -> dict[str, dict[str, Any]]:
    """All results, by lookup id; each lookup comes in a message of its own."""
    found = {}
    # A refused access token costs each lookup that shares it a call: lookups that have it refused come last.
    for refuses in (False, True):
        numbers = [number for number, each in enumerate(SCENARIOS) if _refuses(each) is refuses]
        for number in numbers:
            scenario = SCENARIOS[number]
            request = {FIELD[scenario["provider"]]: scenario["reference"], "lookup_id": str(number)}
            service.send(scenario["provider"], [request], lane="bulk", task_id=f"scenario-{number}")
            if refuses:
                found[str(number)] = service.results(f"scenario-{number}", 1, timeout=40)[0]
        found |= {str(n): service.results(f"scenario-{n}", 1, timeout=40)[0] for n in numbers}
    return found


def _refuses(scenario: dict[str, Any]) -> bool:
    return any(word in str(scenario) for word in ("401", "403", "unauthorized", "forbidden"))


def identify(scenario: dict[str, Any]) -> str:
    return f"{scenario['provider']}:{scenario['reference']}"


@pytest.mark.parametrize("number", range(len(SCENARIOS)), ids=map(identify, SCENARIOS))
def test_a_magic_reference_becomes_its_result(results: dict[str, dict[str, Any]], number: int) -> None:
    scenario, result = SCENARIOS[number], dict(results[str(number)])
    assert result.pop("requested_at") <= result.pop("completed_at")
    assert result == {
        "schema_version": 1,
        "lookup_id": str(number),
        "task_id": f"scenario-{number}",
        "provider": scenario["provider"],
        "account": "default",
        "status": scenario["status"],
        "token": scenario["token"],
        "error": scenario["error"],
        # A reset on a connection that was used before is not charged.
        "attempts": result["attempts"] if scenario["reference"].endswith("reset-1") else scenario["attempts"],
        "replay_of": None,
        "metadata": {},
    }


#: Where a connection that was used before brings nothing, or any names another token, the provider is asked again,
#: uncharged, on a new one.
ASKED_AGAIN = ("reset", "close", "hang", "garbage", "wrong-token")


def test_the_provider_was_called_as_often_as_the_results_say(
    service: Service, results: dict[str, dict[str, Any]]
) -> None:
    references = [scenario["reference"] for scenario in SCENARIOS]
    stats = service.simulator.stats(*references)
    calls = {reference: seen["calls"] for reference, seen in stats["by_reference"].items()}
    attempts = {scenario["reference"]: scenario["attempts"] for scenario in SCENARIOS}
    again = {each for each in attempts if each.removeprefix("OPAY_TOKEN_").startswith(ASKED_AGAIN)}
    assert {each: calls[each] for each in calls.keys() - again} == {
        each: attempts[each] for each in attempts.keys() - again
    }
    assert all(attempts[each] <= calls[each] <= 2 * attempts[each] for each in again)
    ids = [id_ for seen in stats["by_reference"].values() for id_ in seen["request_ids"]]
    assert len(ids) == len(set(ids)), "each attempt has a Request-Id of its own"
    assert all(re.fullmatch("[0-9a-f]{32}", id_) for id_ in ids)
    assert stats["redirects_followed"] == 0
    assert set(stats["refused"].values()) == {0}, "no call of ours lacked a header or a signature"


def test_a_lookup_that_failed_for_a_reason_to_act_on_is_a_dead_letter(
    service: Service, results: dict[str, dict[str, Any]]
) -> None:
    kept = {entry["lookup_id"]: entry for entry in service.entries("lookup:dead-letters")}
    failed = {
        id_: result
        for id_, result in results.items()
        if result["status"] == "failed" and result["error"]["category"] != "invalid_request"
    }
    assert kept.keys() == failed.keys()
    for id_, entry in kept.items():
        result, scenario = results[id_], SCENARIOS[int(id_)]
        assert entry.pop("failed_at") == result["completed_at"]
        request = json.loads(entry.pop("request"))
        assert request == {FIELD[scenario["provider"]]: scenario["reference"], "lookup_id": id_}
        assert json.loads(entry.pop("result")) == result
        assert entry == {
            "lookup_id": id_,
            "task_id": result["task_id"],
            "provider": scenario["provider"],
            "account": "default",
            "lane": "bulk",
            "category": result["error"]["category"],
            "code": result["error"]["code"] or "",
        }


def test_no_magic_reference_is_left_out() -> None:
    table = re.findall(
        r"^\| (`.+?) \| (every|both|OPay|Afterpay) \|", (ROOT / "simulator/README.md").read_text(), re.MULTILINE
    )
    wanted = {
        (provider, name)
        for names, who in table
        for name in re.findall(r"`([^`]+)`", names)
        for provider in (["opay", "afterpay"] if who in ("every", "both") else [who.lower()])
    }
    assert len(wanted) > 80
    have = {(s["provider"], s["reference"].removeprefix("OPAY_TOKEN_").partition("~")[0]) for s in SCENARIOS}
    # `rate-limited-N-S` stands for rate-limited-1-0 and its like.
    patterns = {pair: re.sub(r"(?<=-)(N+|S|X+)(?=-|$)", r"[0-9.]+", pair[1]) for pair in wanted}
    missing = [
        pair
        for pair, pattern in patterns.items()
        if not any(provider == pair[0] and re.fullmatch(pattern, name) for provider, name in have)
    ]
    assert missing == []
