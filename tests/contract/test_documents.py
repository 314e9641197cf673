"""The contract's documents: as the models say, and never less than what a release has promised."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cardtoken.contract import LookupRequest
from sandbox.service import Service
from tasks.providers import PROVIDERS
from tools.contract import FOLDER, breaks, documents

SCHEMAS = [name for name in documents() if name.endswith(".schema.json")]
MAGIC = (
    "visa",
    "with-expiry",
    "unicode",
    "minimal",
    "not-found",
    "code-20000",
    "timeout-1",
    "malformed",
    "echo-secrets",
)


def on_disk(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def test_the_documents_are_those_of_the_models() -> None:
    made = documents()
    assert {path.name for path in FOLDER.glob("*.json")} == set(made)
    for name, document in made.items():
        assert on_disk(name) == document, f"{name}: run `make contract`"


@pytest.mark.parametrize("name", sorted(path.name for path in (FOLDER / "released").glob("*.schema.json")))
def test_nothing_that_was_released_is_broken(name: str) -> None:
    released = json.loads((FOLDER / "released" / name).read_text())
    assert breaks(released, documents()[name], read="request" in name) == []


def test_opay_afterpay_and_results_are_released() -> None:
    released = {path.name for path in (FOLDER / "released").glob("*.json")}
    assert released >= {
        *("opay-request.schema.json", "afterpay-request.schema.json", "result.schema.json", "asyncapi.json")
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(documents()[name])


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> list[str]:
    released = documents()[name]
    new = copy.deepcopy(released)
    change(new)
    return breaks(released, new, read="request" in name)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda it: it["properties"].pop("deadline"), "deadline is gone"),
        (lambda it: it["required"].append("account"), "account is needed now"),
        (lambda it: it["properties"]["lookup_id"].update(pattern="^x$"), "lookup_id: pattern"),
        (lambda it: it["properties"]["opay_token"].update(maxLength=10), "opay_token: maxLength"),
        (lambda it: it["properties"]["opay_token"].update(type="integer"), "opay_token was string"),
        (lambda it: it["properties"]["metadata"].update(maxProperties=3), "metadata: maxProperties"),
    ],
)
def test_a_request_that_was_good_stays_good(change: Callable[[dict[str, Any]], object], told: str) -> None:
    assert any(each.startswith(told) for each in changed("opay-request.schema.json", change))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda it: it["properties"].pop("attempts"), "attempts is gone"),
        (lambda it: it["required"].remove("task_id"), "task_id may be missing now"),
        (lambda it: it["properties"]["status"]["enum"].append("maybe"), "status may be something else"),
        (lambda it: it["properties"]["attempts"].update(type=["integer", "null"]), "attempts was integer"),
        (lambda it: it["$defs"]["TokenRecord"]["properties"].pop("last4"), "token.last4 is gone"),
        (
            lambda it: it["$defs"]["Customer"]["properties"]["email"].update(anyOf=[{"type": "integer"}]),
            "token.customer.email was",
        ),
        (lambda it: it["properties"]["requested_at"].pop("format"), "requested_at: format"),
    ],
)
def test_a_result_stays_what_it_was(change: Callable[[dict[str, Any]], object], told: str) -> None:
    assert any(each.startswith(told) for each in changed("result.schema.json", change))


def test_changes_that_add_something_are_compatible() -> None:
    def grow(it: dict[str, Any]) -> None:
        it["properties"]["new_field"] = {"type": "string"}

    assert changed("opay-request.schema.json", grow) == []
    assert changed("result.schema.json", grow) == []
    assert changed("result.schema.json", lambda it: it["required"].append("new_field")) == []
    assert changed("opay-request.schema.json", lambda it: it["properties"]["opay_token"].update(maxLength=4096)) == []


GOOD: list[dict[str, Any]] = [
    {},
    {"lookup_id": "order:1", "account": "shop_2", "reply_to": "reply.x"},
    {"requested_at": "2026-01-31T12:00:00Z", "deadline": "2026-01-31T12:00:00+02:00"},
    {"metadata": {str(n): "x" for n in range(16)}},
]
BAD: list[dict[str, Any]] = [
    {"lookup_id": ""},
    {"lookup_id": "a b"},
    {"lookup_id": "ends\n"},
    {"lookup_id": 7},
    {"account": "a:b"},
    {"reply_to": "x" * 65},
    {"metadata": {str(n): "x" for n in range(17)}},
    {"metadata": {"a": 1}},
    {"unknown": 1},
]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_schema_and_model_judge_requests_alike(provider: str) -> None:
    model: type[LookupRequest] = PROVIDERS[provider].request
    schema = Draft202012Validator(documents()[f"{provider}-request.schema.json"])
    field = next(name for name, info in model.model_fields.items() if info.is_required())
    for given in GOOD:
        request = {field: "reference", **given}
        assert schema.is_valid(request)
        model.model_validate(request)
    for given in [*BAD, {field: ""}, {field: "x" * 1025}, {field: None}]:
        request = {field: "reference", **given}
        with pytest.raises(ValueError, match=r"validation error"):
            model.model_validate(request)
        if "ends" not in str(given):  # Python's $ lets a line break pass; ECMA's does not
            assert not schema.is_valid(request), given


def test_published_results_follow_the_schema(service: Service) -> None:
    schema = Draft202012Validator(on_disk("result.schema.json"))
    requests = [{"opay_token": f"OPAY_TOKEN_{name}~s"} for name in MAGIC]
    afterpay = [{"original_request_id": f"{name}~s", "metadata": {"a": "b"}} for name in MAGIC]
    results = service.results(service.send("opay", [*requests, 5]), len(MAGIC) + 1)
    results += service.results(service.send("afterpay", afterpay), len(MAGIC))
    assert {result["status"] for result in results} == {"found", "not_found", "failed"}
    for result in results:
        schema.validate(result)
