"""``cardtoken quarantine``, with a real worker that puts away what is no message."""

import base64
import json

import pytest

from cardtoken.keys import QUARANTINE
from sandbox.service import Service
from sandbox.waiting import until
from tests.cli.terminal import Terminal, piped, piped_each

QUEUE = "lookup.opay.bulk"
RAW = b'{"body": "OPAY_TOKEN_0123456789"} \xff\x1b[2J'


@pytest.fixture
def entry(service: Service) -> str:
    """The id of the one entry of the quarantine."""
    service.redis.delete(QUARANTINE)
    service.redis.lpush(QUEUE, RAW)
    service.quarantined(RAW)
    [(name, _)] = service.redis.xrange(QUARANTINE)
    return str(name.decode())


def test_the_list_says_what_it_is_and_shows_none_of_it(env: dict[str, str], entry: str) -> None:
    done = piped(env, "quarantine", "list")
    assert (done.returncode, done.stderr) == (0, "")
    name, _, queue, size, reason = done.stdout.rstrip("\n").split("\t")
    assert (name, queue, int(size)) == (entry, QUEUE, len(RAW))
    assert reason
    with Terminal(env, "quarantine", "list") as terminal:
        assert terminal.end() == 0
    shown = [done.stdout, terminal.text, piped(env, "quarantine", "show", entry).stdout]
    assert not any("OPAY_TOKEN" in each for each in shown)


def test_its_bytes_are_shown_to_who_wants_them(env: dict[str, str], entry: str) -> None:
    shown = piped(env, "quarantine", "show", entry, "--reveal").stdout
    assert "OPAY_TOKEN_0123456789" in shown
    assert "\x1b" not in shown, "what a producer pushed does not play with a terminal"
    told = json.loads(piped(env, "quarantine", "show", entry, "--reveal", "--json").stdout)
    assert base64.b64decode(told["raw"]) == RAW


def test_options_choose_which_entries_are_listed(env: dict[str, str], entry: str) -> None:
    choices = (
        (["--queue", QUEUE], 1),
        (["--queue", "lookup.opay.interactive"], 0),
        (["--reason", "UTF"], 1),
        (["--reason", "too late"], 0),
        (["--newer-than", "1h"], 1),
        (["--older-than", "1h"], 0),
    )
    each = piped_each(env, *(["quarantine", "list", *args] for args, _ in choices))
    for done, (args, count) in zip(each, choices, strict=True):
        assert len(done.stdout.splitlines()) == count, args


def test_released_it_is_on_its_queue_byte_for_byte(service: Service, env: dict[str, str], entry: str) -> None:
    service.producer.control.cancel_consumer(QUEUE, reply=True, timeout=1)
    try:
        assert piped(env, "quarantine", "release", entry).returncode == 2, "there is no terminal to ask on"
        done = piped(env, "quarantine", "release", "--queue", QUEUE, "--yes")
        assert (done.returncode, done.stdout) == (0, "1 released\n")
        assert service.redis.lrange(QUEUE, 0, -1) == [RAW]
        assert service.redis.xlen(QUARANTINE) == 0
    finally:
        service.producer.control.add_consumer(QUEUE, reply=True, timeout=1)
    until(lambda: True if service.redis.xlen(QUARANTINE) else None)


def test_an_entry_that_was_not_kept_whole_stays(service: Service, env: dict[str, str], entry: str) -> None:
    cut = service.redis.xadd(
        QUARANTINE,
        {"queue": QUEUE, "reason": "larger than the limit", "raw": "begin", "truncated_from": 20_000_000},
    ).decode()
    done = piped(env, "quarantine", "release", "--reason", "larger", "--yes")
    assert (done.returncode, done.stdout) == (1, "0 released\n")
    assert "20,000,000" in done.stderr
    assert piped(env, "quarantine", "list", "--reason", "larger").stdout.startswith(cut)


def test_discarding_asks_first(service: Service, env: dict[str, str], entry: str) -> None:
    assert piped(env, "quarantine", "discard").returncode == 2
    with Terminal(env, "quarantine", "discard", "--newer-than", "1h") as terminal:
        terminal.until(r"1 to discard")
        terminal.until(r"\[y/N\]")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert service.redis.xlen(QUARANTINE) == 0
    assert piped(env, "quarantine", "discard", entry, "--yes").returncode == 3
