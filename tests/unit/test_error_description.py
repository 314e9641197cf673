"""What is shown of an unforeseen error: where it came from, and nothing of what it says."""

import json
import re
import subprocess
import sys

import pytest

from cardtoken.contract import parse_time
from cardtoken.error_description import describe_error, describe_stack
from sandbox.environment import ROOT
from tasks.broker.envelope import MalformedError, open_envelope

CANARY = "OPAY_TOKEN_canary"


def raised(call: object, *args: object) -> BaseException:
    with pytest.raises(BaseException) as found:  # noqa: PT011 - any of them
        call(*args)  # type: ignore[operator]
    return found.value


def test_an_error_of_ours_is_its_type_and_its_file_and_line() -> None:
    error = raised(open_envelope, CANARY, frozenset(), "no limit")
    assert re.fullmatch(r"AttributeError at tasks/broker/envelope\.py:\d+", describe_error(error))


def test_the_innermost_line_of_ours_counts_where_a_library_raised_it() -> None:
    error = raised(parse_time, "OPAY_TOKEN_canary")
    assert re.fullmatch(r"\w+ at cardtoken/contract\.py:\d+", describe_error(error))


def test_an_error_that_never_came_by_our_code_has_the_librarys_place() -> None:
    error = raised(json.loads, CANARY)
    assert re.fullmatch(r"JSONDecodeError at json\.decoder:\d+", describe_error(error))


def test_one_that_was_not_raised_has_no_place() -> None:
    assert describe_error(KeyError(CANARY)) == "KeyError"


def test_a_package_is_named_by_its_file() -> None:
    import cardtoken

    error = raised(cardtoken.__getattr__, CANARY)
    assert re.fullmatch(r"AttributeError at cardtoken/__init__\.py:\d+", describe_error(error))


def test_causes_and_the_members_of_a_group_are_named_too() -> None:
    error = raised(open_envelope, b"x", frozenset(), 1)
    assert isinstance(error, MalformedError)
    outer = RuntimeError(CANARY)
    outer.__cause__ = error
    assert re.fullmatch(
        r"RuntimeError, caused by MalformedError at tasks/broker/envelope\.py:\d+", describe_error(outer)
    )
    group = ExceptionGroup(CANARY, [error, *[KeyError(CANARY)] * 4])
    assert re.fullmatch(
        r"ExceptionGroup \(MalformedError at tasks/\S+:\d+, KeyError, KeyError, 2 more\)", describe_error(group)
    )


def test_a_stack_has_places_and_functions_and_neither_values_nor_code() -> None:
    error = raised(open_envelope, b'{"headers": 5}', frozenset(), 1)
    first, *places = describe_stack(error).splitlines()
    assert first == describe_error(error)
    assert re.fullmatch(r"  tasks/broker/envelope\.py:\d+ in open_envelope", places[1])


WRITING = """
import logging, sys, threading
from tasks.telemetry.uncaught import describe_all_errors
logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
describe_all_errors()
from tasks.broker.envelope import open_envelope
from redis import ConnectionError

def fail():
    raise KeyError("OPAY_TOKEN_canary")

logger = logging.getLogger("celery.worker")
try:
    try:
        fail()
    except KeyError as error:
        logger.critical("Unrecoverable error: %r", error, exc_info=True)
        logger.error(error)
        logger.error("of a mapping: %(why)s", {"why": error})
        raise ValueError("OPAY_TOKEN_canary") from error
except ValueError as error:
    logger.exception("chained %s", error)
logger.warning("Redis: %s", ConnectionError("it is away"))
logger.warning("%d and %s", "OPAY_TOKEN_canary" and [])
class Odd:
    def __del__(self):
        fail()
Odd()
thread = threading.Thread(target=fail, name="ours")
thread.start()
thread.join()
open_envelope("OPAY_TOKEN_canary", frozenset(), 1)
"""


def test_no_log_line_thread_or_process_writes_an_errors_text() -> None:
    command = [sys.executable, "-c", WRITING]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "canary" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    for words in (
        r"CRITICAL Unrecoverable error: KeyError at __main__:\d+\nKeyError at __main__:\d+\n  __main__:\d+ in <module>",
        r"ERROR of a mapping: KeyError at __main__:\d+\n",
        r"ERROR chained ValueError at __main__:\d+, caused by KeyError at __main__:\d+\n",
        r"WARNING Redis: it is away\n",
        r"CRITICAL something that nothing waits for ended in KeyError at __main__:\d+\n",
        r"CRITICAL thread ours ended in KeyError at __main__:\d+\n",
        r"CRITICAL the process ended in AttributeError at tasks/broker/envelope\.py:\d+\n",
    ):
        assert re.search(words, done.stderr), (words, done.stderr)
