"""The client's errors: each says what to do, crosses the border of a process, and shows no more than it should."""

import pickle
from datetime import UTC, datetime

import pytest

from cardtoken import (
    CardTokenError,
    ClosedError,
    InvalidRequestError,
    LookupFailedError,
    LookupTimeoutError,
    RedisRefusedError,
    RedisUnavailableError,
    Status,
    UnreadableResultError,
)
from cardtoken.contract import LookupFailure, LookupResult

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
FAILURE = LookupFailure(category="unavailable", code="90", message="of Jo Bloggs", retryable=True)
RESULT = LookupResult(
    lookup_id="mine",
    task_id="t",
    provider="opay",
    account="default",
    status=Status.FAILED,
    error=FAILURE,
    attempts=5,
    requested_at=NOW,
    completed_at=NOW,
)
INDEXED = InvalidRequestError("opay_token: must be printable text")
INDEXED.index = 7

ERRORS: list[CardTokenError] = [
    ClosedError(),
    INDEXED,
    LookupFailedError(RESULT, FAILURE),
    LookupTimeoutError("lookup.opay.interactive", 2.5, "t", "t:0"),
    RedisRefusedError("Redis refused LPUSH: OOM", "OOM"),
    RedisUnavailableError("Redis cannot be reached"),
    UnreadableResultError("a result of schema version 2", newer=True),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_on_the_other_side_of_a_process(error: CardTokenError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - what this test has written itself
    assert type(copy) is type(error)
    assert str(copy) == str(error) != ""
    assert vars(copy) == vars(error)


def test_a_failed_lookup_says_whether_to_ask_again_and_not_what_the_provider_said() -> None:
    text = str(LookupFailedError(RESULT, FAILURE))
    assert text == "lookup mine failed: unavailable, code 90; asking again later may succeed"
    final = LookupFailedError(RESULT, FAILURE.model_copy(update={"retryable": False, "code": None}))
    assert str(final) == "lookup mine failed: unavailable; asking again will not help until it is mended"
    assert (final.category, final.code, final.retryable) == ("unavailable", None, False)
