"""``cardtoken dead-letters``, with a real worker that makes them and looks up what is replayed."""

import json
import uuid
from typing import Any

import pytest

from cardtoken.keys import DEAD_LETTERS
from sandbox.service import Service
from sandbox.waiting import until
from tests.cli.terminal import Terminal, piped, piped_each


def reference(name: str = "code-20000") -> str:
    """One that no other test asks for; the provider refuses it."""
    return f"OPAY_TOKEN_{name}~{uuid.uuid4().hex[:12]}"


@pytest.fixture
def letters(service: Service) -> Any:
    """An empty list; answers how to fill it, with the ids of what was put there."""
    service.redis.delete(DEAD_LETTERS)

    def put(*requests: dict[str, Any], lane: str = "bulk") -> list[str]:
        before = service.redis.xlen(DEAD_LETTERS)
        filled = [{"opay_token": reference(), "reply_to": "letters", **each} for each in requests]
        service.send("opay", filled, lane=lane)
        until(lambda: True if service.redis.xlen(DEAD_LETTERS) == before + len(requests) else None)
        return [name.decode() for name, _ in service.redis.xrange(DEAD_LETTERS)][before:]

    return put


def results(service: Service, lookup_id: str, stream: str = "letters") -> list[dict[str, Any]]:
    return [
        json.loads(entry["result"])
        for entry in service.entries(f"token-records:{stream}")
        if entry["lookup_id"] == lookup_id
    ]


def test_the_list_says_why_and_shows_no_token(env: dict[str, str], letters: Any) -> None:
    token = reference()
    [name] = letters({"opay_token": token, "lookup_id": "L1", "metadata": {"order": "secret-17"}})
    done = piped(env, "dead-letters", "list")
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    columns = line.split("\t")
    assert columns[0] == name
    assert columns[2:8] == ["L1", "opay", "default", "bulk", "rejected", "20000"]
    with Terminal(env, "dead-letters", "list") as terminal:
        assert terminal.end() == 0
        assert "20000" in terminal.text
    everything = [done.stdout, terminal.text]
    everything += [piped(env, "dead-letters", *args).stdout for args in (["list", "--json"], ["show", name])]
    for shown in everything:
        assert token not in shown
        assert "secret-17" not in shown
    assert token in piped(env, "dead-letters", "show", name, "--reveal").stdout
    told = json.loads(piped(env, "dead-letters", "show", name, "--reveal", "--json").stdout)
    assert told["request"]["metadata"] == {"order": "secret-17"}


def test_options_choose_which_entries_are_listed(env: dict[str, str], letters: Any) -> None:
    letters({"lookup_id": "one"}, {"lookup_id": "two"})
    choices: tuple[tuple[list[str], list[str]], ...] = (
        (["--provider", "opay"], ["one", "two"]),
        (["--provider", "afterpay"], []),
        (["--account", "default", "--lane", "bulk", "--code", "20000"], ["one", "two"]),
        (["--lane", "interactive"], []),
        (["--category", "internal"], []),
        (["--lookup-id", "two"], ["two"]),
        (["--task-id", "another's"], []),
        (["--newer-than", "1h"], ["one", "two"]),
        (["--older-than", "1h"], []),
        (["--limit", "1", "--lookup-id", "one"], ["one"]),
    )
    each = piped_each(env, *(["dead-letters", "list", *args, "--json"] for args, _ in choices))
    for done, (args, found) in zip(each, choices, strict=True):
        assert sorted(json.loads(line)["lookup_id"] for line in done.stdout.splitlines()) == found, args


def test_a_replayed_lookup_is_the_same_one_again(service: Service, env: dict[str, str], letters: Any) -> None:
    token, lookup_id = reference(), uuid.uuid4().hex
    stale = {"requested_at": "2026-01-01T00:00:00Z", "deadline": "2099-01-01T00:00:00Z"}
    [name] = letters({"opay_token": token, "lookup_id": lookup_id, "metadata": {"order": "17"}, **stale})
    done = piped(env, "dead-letters", "replay", name, "--yes")
    assert (done.returncode, done.stdout) == (0, "1 replayed\n")
    first, second = until(lambda: found if len(found := results(service, lookup_id)) == 2 else None)
    assert second["status"] == "failed"
    assert second["replay_of"] == first["task_id"] != second["task_id"]
    assert second["metadata"] == {"order": "17"}
    assert second["requested_at"] > first["requested_at"]
    [letter] = service.entries(DEAD_LETTERS)
    assert (letter["task_id"], "deadline" in json.loads(letter["request"])) == (second["task_id"], False)


def test_many_are_shown_first_and_wait_for_a_yes(service: Service, env: dict[str, str], letters: Any) -> None:
    letters(*({} for _ in range(30)))
    with Terminal(env, "dead-letters", "replay", "--newer-than", "1h") as terminal:
        terminal.until(r"30 to replay\n +30  opay · default · bulk · rejected · 20000")
        terminal.until(r"Replay them\? \[y/N\]")
        assert service.redis.xlen(DEAD_LETTERS) == 30
        terminal.type("n\n")
        assert terminal.end() == 1
        assert "Nothing was changed" in terminal.text
    with Terminal(env, "dead-letters", "replay", "--newer-than", "1h") as terminal:
        terminal.until(r"\[y/N\]")
        terminal.type("y\n")
        terminal.until("30 replayed")
        assert terminal.end() == 0
    # The same message again, and not one for each.
    until(lambda: True if len({each["task_id"] for each in service.entries(DEAD_LETTERS)}) == 1 else None)
    until(lambda: True if service.redis.xlen(DEAD_LETTERS) == 30 else None)


def test_ctrl_c_at_the_question_changes_nothing(service: Service, env: dict[str, str], letters: Any) -> None:
    letters({})
    with Terminal(env, "dead-letters", "discard", "--provider", "opay") as terminal:
        terminal.until(r"\[y/N\]")
        assert terminal.interrupt() == 130
    assert service.redis.xlen(DEAD_LETTERS) == 1


def test_a_lookup_from_a_one_off_queue_needs_another_to_be_replayed(
    service: Service, env: dict[str, str], letters: Any
) -> None:
    lookup_id = uuid.uuid4().hex
    [name] = letters({"lookup_id": lookup_id, "reply_to": "reply.gone"})
    refused = piped(env, "dead-letters", "replay", name, "--yes")
    assert refused.returncode == 2
    assert "--reply-to" in refused.stderr
    assert service.redis.xlen(DEAD_LETTERS) == 1
    with Terminal(env, "dead-letters", "replay", name) as terminal:
        terminal.until("one-off reply queue")
        terminal.type("letters\n")
        terminal.until(r"\[y/N\]")
        terminal.type("y\n")
        assert terminal.end() == 0
    until(lambda: results(service, lookup_id) or None)


def test_a_lookup_of_a_bulk_run_needs_another_queue_and_no_is_not_a_name(
    service: Service, env: dict[str, str], letters: Any
) -> None:
    lookup_id = uuid.uuid4().hex
    [name] = letters({"lookup_id": lookup_id, "reply_to": "bulk.0123456789abcdef"})
    refused = piped(env, "dead-letters", "replay", name, "--yes")
    assert refused.returncode == 2
    assert "--reply-to" in refused.stderr
    assert "--reply-to will be needed" in piped(env, "dead-letters", "replay", name, "--dry-run").stderr
    for answer in ("n", ""):
        with Terminal(env, "dead-letters", "replay", name) as terminal:
            terminal.until("Name of the result queue")
            terminal.type(f"{answer}\n")
            assert terminal.end() == 1
            assert "Nothing was changed" in terminal.text
    assert service.redis.xlen(DEAD_LETTERS) == 1
    with Terminal(env, "dead-letters", "replay", name) as terminal:
        for answer, says in (
            ("y", "please"),
            ("a/b", "must be"),
            ("bulk.fedcba9876543210", "one-off"),
            ("letters", "Replay them"),
        ):
            terminal.until("Name of the result queue")
            terminal.type(f"{answer}\n")
            terminal.until(says)
        terminal.type("y\n")
        terminal.until("cardtoken results --reply-to letters")
        assert terminal.end() == 0
    until(lambda: results(service, lookup_id) or None)


def test_nothing_is_replayed_unless_the_operator_says_which(env: dict[str, str], letters: Any) -> None:
    letters({})
    mistakes = (
        (["replay"], "say which"),
        (["discard", "--yes"], "say which"),
        (["replay", "--provider", "opay"], "--yes"),
        (["replay", "everything"], "not the id of an entry"),
        (["list", "--newer-than", "yesterday"], "90s, 15m, 2h or 7d"),
    )
    each = piped_each(env, *(["dead-letters", *args] for args, _ in mistakes))
    for done, (_, says) in zip(each, mistakes, strict=True):
        assert done.returncode == 2
        assert says in done.stderr
    looked, shown, replayed = piped_each(
        env,
        ["dead-letters", "replay", "--provider", "opay", "--dry-run"],
        ["dead-letters", "show", "1-1"],
        ["dead-letters", "replay", "1-1", "--yes"],
    )
    assert (looked.returncode, "1 to replay" in looked.stderr) == (0, True)
    assert (shown.returncode, replayed.returncode) == (3, 3)


def test_discarding_is_for_good(service: Service, env: dict[str, str], letters: Any) -> None:
    one, _ = letters({}, {})
    assert piped(env, "dead-letters", "discard", one, "--yes").stdout == "1 discarded\n"
    assert service.redis.xlen(DEAD_LETTERS) == 1
    assert piped(env, "dead-letters", "discard", "--category", "rejected", "--yes").stdout == "1 discarded\n"
    assert service.redis.xlen(DEAD_LETTERS) == 0


def test_a_letter_leaves_only_with_its_message(service: Service, env: dict[str, str], letters: Any) -> None:
    """Redis refuses the push: the queue's key holds something else, and the letter stays."""
    [name] = letters({})
    queue = "lookup.opay.interactive"
    service.producer.control.cancel_consumer(queue, reply=True, timeout=1)
    try:
        service.redis.set(queue, "something else")
        done = piped(env, "dead-letters", "replay", name, "--into", "interactive", "--yes")
        assert done.returncode == 5
        assert "WRONGTYPE" in done.stderr
        assert service.redis.xlen(DEAD_LETTERS) == 1
    finally:
        service.redis.delete(queue)
        service.producer.control.add_consumer(queue, reply=True, timeout=1)


def test_dead_letters_that_cannot_be_replayed_are_left_and_named(
    service: Service, env: dict[str, str], letters: Any
) -> None:
    letters({}, {})
    odd = service.redis.xadd(
        DEAD_LETTERS,
        {"lookup_id": "x", "task_id": "t", "provider": "opay", "lane": "bulk", "category": "rejected", "request": "5"},
    )
    done = piped(env, "dead-letters", "replay", "--category", "rejected", "--yes")
    assert (done.returncode, done.stdout) == (1, "2 replayed\n")
    assert odd.decode() in done.stderr
    assert odd in [name for name, _ in service.redis.xrange(DEAD_LETTERS)]
