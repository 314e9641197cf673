"""The samples of the providers' pages, through the whole service, field for field."""

import re
from datetime import UTC, datetime

import pytest

from sandbox.service import Service

RFC_3339_Z = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

OPAY_TOKEN = {
    "value": "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5",
    "brand": "visa",
    "brand_raw": "VISA",
    "first6": "450875",
    "last4": "7411",
    "exp_month": None,
    "exp_year": None,
    "funding": None,
    "product": None,
    "issuer": None,
    "country": None,
    "credit_limit": None,
    "created_at": "2021-11-25T06:45:53Z",
    "customer": {"id": "121111113", "name": "name1", "email": "123@1231.com", "phone": "20123111111"},
    "transaction_id": None,
    "receipt_id": None,
}
AFTERPAY_TOKEN = {
    "value": "6966af4975984c30ae2e2c18985bc21c",
    "brand": "visa",
    "brand_raw": "VISA",
    "first6": None,
    "last4": "1111",
    "exp_month": None,
    "exp_year": None,
    "funding": "debit",
    "product": "pre-paid giftcard",
    "issuer": "Commonwealth Bank of Australia",
    "country": "AU",
    "credit_limit": "123",
    "created_at": None,
    "customer": None,
    "transaction_id": "13e753e2e4a4b2f692b573e5fbe98b7b5523586a",
    "receipt_id": "32432",
}
SAMPLES = [
    ("opay", {"opay_token": "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"}, OPAY_TOKEN),
    ("afterpay", {"original_request_id": "8456732415666565656565656565656"}, AFTERPAY_TOKEN),
]


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
@pytest.mark.parametrize(("provider", "request_", "token"), SAMPLES, ids=["opay", "afterpay"])
def test_a_page_sample_becomes_the_record_that_the_contract_shows(
    service: Service, provider: str, request_: dict[str, str], token: dict[str, object], lane: str
) -> None:
    before = datetime.now(UTC)
    metadata = {"order": "A-1", "naïve": "Ünïcode ✓"}
    task_id = service.send(
        provider, [{**request_, "reply_to": "samples", "lookup_id": f"{lane}:1", "metadata": metadata}], lane
    )

    [result] = service.results(task_id, 1, "samples")

    times = [result.pop(name) for name in ("requested_at", "completed_at")]
    assert result == {
        "schema_version": 1,
        "lookup_id": f"{lane}:1",
        "task_id": task_id,
        "provider": provider,
        "account": "default",
        "status": "found",
        "token": token,
        "error": None,
        "attempts": 1,
        "replay_of": None,
        "metadata": metadata,
    }
    assert all(RFC_3339_Z.fullmatch(time) for time in times)
    assert before <= datetime.fromisoformat(times[0]) <= datetime.fromisoformat(times[1]) <= datetime.now(UTC)


def test_an_entry_of_a_result_queue_has_the_four_fields(service: Service) -> None:
    task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "reply_to": "fields", "lookup_id": "f"}])
    [result] = service.results(task_id, 1, "fields")
    [entry] = service.entries("token-records:fields")
    assert entry.keys() == {"lookup_id", "status", "provider", "result"}
    assert (entry["lookup_id"], entry["status"], entry["provider"]) == ("f", "found", "opay")
    assert result["lookup_id"] == "f"


def test_consumers_share_a_result_queue_and_acknowledge(service: Service) -> None:
    service.redis.xgroup_create("token-records:group", "checkout", id="0", mkstream=True)
    requests = [{"opay_token": f"OPAY_TOKEN_visa~{i}", "reply_to": "group"} for i in range(4)]
    task_id = service.send("opay", requests)
    service.results(task_id, 4, "group")

    seen = []
    for consumer in ("a", "b"):
        [[_, entries]] = service.redis.xreadgroup("checkout", consumer, {"token-records:group": ">"}, count=2)
        seen += [fields[b"lookup_id"].decode() for _, fields in entries]
        assert service.redis.xack("token-records:group", "checkout", *[entry for entry, _ in entries]) == 2

    assert sorted(seen) == [f"{task_id}:{i}" for i in range(4)]
    assert service.redis.xpending("token-records:group", "checkout")["pending"] == 0


def test_the_producers_own_times_and_ids_come_back(service: Service) -> None:
    request = {
        "opay_token": "OPAY_TOKEN_visa",
        "lookup_id": "A-Za.z0_9:-",
        "requested_at": "2026-01-31T13:00:00.5+01:00",
        "deadline": "2099-01-01T00:00:00Z",
        "reply_to": "own",
        "account": "default",
    }
    [result] = service.results(service.send("opay", [request]), 1, "own")
    assert result["lookup_id"] == "A-Za.z0_9:-"
    assert result["requested_at"] == "2026-01-31T12:00:00.500000Z"
    assert result["status"] == "found"


def test_a_one_off_reply_queue_expires_after_its_last_write(service: Service) -> None:
    task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "reply_to": "reply.one"}])
    service.results(task_id, 1, "reply.one")
    assert 290 < service.redis.ttl("token-records:reply.one") <= 300
    service.redis.expire("token-records:reply.one", 20)
    task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "reply_to": "reply.one"}])
    service.results(task_id, 1, "reply.one")
    assert 290 < service.redis.ttl("token-records:reply.one") <= 300
    assert service.redis.ttl("token-records:default") in {-1, -2}, "a lasting result queue does not expire"
