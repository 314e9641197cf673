"""A message that is revoked or expires is answered, and asks no provider."""

from sandbox.service import Service
from sandbox.waiting import until


def ends(service: Service, task_id: str, count: int) -> set[tuple[str, str | None]]:
    results = service.results(task_id, count)
    return {(result["status"], result["error"] and result["error"]["category"]) for result in results}


def test_a_revoked_message_is_answered_as_expired_without_a_call(service: Service) -> None:
    references = ["OPAY_TOKEN_visa~revoked-0", "OPAY_TOKEN_visa~revoked-1"]
    with service.worker():
        task_id = service.send("opay", [{"opay_token": each} for each in references], countdown=1.5)
        service.producer.control.revoke(task_id, reply=True, timeout=1)
        assert ends(service, task_id, 2) == {("failed", "expired")}
    assert service.simulator.stats(*references)["by_reference"] == {}


def test_a_message_that_expires_in_its_queue_is_answered_as_expired(service: Service) -> None:
    reference = "OPAY_TOKEN_visa~expires"
    task_id = service.send("opay", [{"opay_token": reference}], expires=0.5)
    with service.worker():  # takes longer than that to start
        assert ends(service, task_id, 1) == {("failed", "expired")}
    assert service.simulator.stats(reference)["by_reference"] == {}


def test_a_message_that_would_expire_before_its_next_try_ends_with_what_it_had(service: Service) -> None:
    with service.worker():
        task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_rate-limited-5-9~expires"}], expires=3)
        assert ends(service, task_id, 1) == {("failed", "rate_limited")}


def test_a_revoked_message_that_runs_already_ends_as_it_would(service: Service) -> None:
    with service.worker():
        task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_slow-2~running"}])
        until(lambda: True if service.simulator.stats()["in_flight"] else None)
        service.producer.control.revoke(task_id, reply=True, timeout=1)
        assert ends(service, task_id, 1) == {("found", None)}
