"""``cardtoken lookup`` and ``cardtoken results``, on a terminal and in a pipe, with a real worker."""

import json
import uuid

import pytest

from sandbox.environment import ROOT
from sandbox.processes import start
from sandbox.redis_server import RedisServer
from sandbox.service import Service
from sandbox.waiting import until
from tests.cli.terminal import CARDTOKEN, Terminal, piped

TOKEN = "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"


def test_the_record_is_shown_and_the_token_is_not(env: dict[str, str]) -> None:
    with Terminal(env, "lookup", "opay", TOKEN) as terminal:
        assert terminal.end() == 0
        shown = terminal.text
    for words in ("found", "visa", "7411", "…5bf5", "token.customer.name"):
        assert words in shown
    assert TOKEN not in shown
    assert "name1" not in shown
    assert "\x1b[" in terminal.raw


def test_reveal_shows_all(env: dict[str, str]) -> None:
    done = piped(env, "lookup", "opay", TOKEN, "--reveal")
    assert f"token.value: {TOKEN}" in done.stdout
    assert "token.customer.name: name1" in done.stdout


def test_in_a_pipe_there_are_lines_and_in_json_the_result(env: dict[str, str]) -> None:
    done = piped(env, "lookup", "opay", "-", "--metadata", "order=17", stdin=f"{TOKEN}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "status: found" in done.stdout.splitlines()
    assert "metadata.order: 17" in done.stdout
    assert "\x1b" not in done.stdout
    result = json.loads(piped(env, "lookup", "opay", TOKEN, "--json").stdout)
    assert (result["status"], result["token"]["last4"], result["token"]["value"]) == ("found", "7411", "…5bf5")
    assert set(result["token"]["customer"].values()) == {"…"}


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["opay", "OPAY_TOKEN_not-found"], 3, "status: not_found"),
        (["afterpay", "visa"], 0, "status: found"),
        (["opay", "OPAY_TOKEN_unavailable-always"], 1, "error.code: 90"),
        (["opay", "OPAY_TOKEN_visa", "--account", "nobody"], 1, "error.category: invalid_request"),
        (["opay", "OPAY_TOKEN_timeout-always", "--timeout", "2"], 4, "error.code: 09"),
    ],
)
def test_the_exit_status_says_how_it_ended(env: dict[str, str], args: list[str], status: int, says: str) -> None:
    done = piped(env, "lookup", *args)
    assert done.returncode == status
    assert says in done.stdout
    assert bool(done.stderr) == (status in {1, 4}), "what failed comes with what to do"


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["opay", ""], 2, "opay_token"),
        (["opay", "OPAY_TOKEN_visa", "--metadata", "order"], 2, "NAME=VALUE"),
        (["visa", "4111"], 2, "'visa' is not one of 'opay', 'afterpay'"),
    ],
)
def test_a_lookup_that_cannot_be_asked_prints_one_error(
    env: dict[str, str], args: list[str], status: int, says: str
) -> None:
    done = piped(env, "lookup", *args)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_where_no_worker_answers_the_wait_ends(env: dict[str, str]) -> None:
    with RedisServer() as empty:
        done = piped({**env, "REDIS_URL": empty.url}, "lookup", "opay", TOKEN, "--timeout", "0.5")
    assert (done.returncode, done.stdout) == (4, "")
    assert "0.5 s" in done.stderr


def test_ctrl_c_ends_the_wait_and_leaves_nothing(service: Service, env: dict[str, str]) -> None:
    with Terminal(env, "lookup", "opay", "OPAY_TOKEN_slow-3") as terminal:
        terminal.until("asking opay")
        terminal.press_ctrl_c()
        assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert not service.redis.keys("token-records:reply.*")


# --- results


@pytest.fixture
def answered(service: Service) -> str:
    """A result queue with three results."""
    queue = f"cli-{uuid.uuid4().hex[:8]}"
    names = ("visa", "not-found", "code-20000")
    task_id = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}", "reply_to": queue} for name in names])
    service.results(task_id, 3, queue)
    return queue


def test_looking_takes_nothing_away(service: Service, env: dict[str, str], answered: str) -> None:
    for _ in range(2):
        done = piped(env, "results", "--reply-to", answered)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(line.split("\t")[2] for line in done.stdout.splitlines()) == ["failed", "found", "not_found"]
    assert service.redis.xinfo_groups(f"token-records:{answered}") == []


def test_json_is_a_line_each_and_masks_what_it_shows(env: dict[str, str], answered: str) -> None:
    masked = piped(env, "results", "--reply-to", answered, "--json").stdout
    told = [json.loads(line) for line in masked.splitlines()]
    assert len(told) == 3
    assert "OPAY_TOKEN_visa" not in masked
    assert "OPAY_TOKEN_visa" in piped(env, "results", "--reply-to", answered, "--json", "--reveal").stdout


def test_a_group_consumes(service: Service, env: dict[str, str], answered: str) -> None:
    args = ["results", "--reply-to", answered, "--group", "shop", "--consumer", "one", "--json"]
    assert len(piped(env, *args, "--count", "2").stdout.splitlines()) == 2
    assert len(piped(env, *args).stdout.splitlines()) == 1
    assert piped(env, *args).stdout == ""
    (group,) = service.redis.xinfo_groups(f"token-records:{answered}")
    assert group["pending"] == 0


def test_following_shows_what_comes_until_ctrl_c(service: Service, env: dict[str, str], answered: str) -> None:
    with Terminal(env, "results", "--reply-to", answered, "--follow", "--new") as terminal:
        until(lambda: True if any(each["cmd"] == "xread" for each in service.redis.client_list()) else None)
        service.send("opay", [{"opay_token": "OPAY_TOKEN_amex", "reply_to": answered}])
        shown = terminal.until("amex")
        assert "visa" not in shown
        terminal.press_ctrl_c()
        assert terminal.end() == 130
    assert "Traceback" not in terminal.text


def test_a_reader_that_has_seen_enough_ends_it_quietly(env: dict[str, str], answered: str) -> None:
    lines: list[str] = []
    command = f"{' '.join(CARDTOKEN)} results --reply-to {answered} --follow | head -1"
    child = start(["/bin/sh", "-c", command], name="pipe", cwd=ROOT, env=env, on_line=lines.append)
    until(lambda: lines or None)
    child.stop()
    assert len(lines) == 1


def test_wrong_usage_names_the_way_out(env: dict[str, str]) -> None:
    for args, says in ((["--group", "g"], "--consumer"), (["--new"], "--follow")):
        done = piped(env, "results", *args)
        assert done.returncode == 2
        assert says in done.stderr
