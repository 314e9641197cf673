"""``make contract``: the public contract as JSON Schemas and as an AsyncAPI 3 document, made from the models.

Written to ``docs/schemas/``. What a release has promised stands in ``docs/schemas/released/``; ``breaks`` says what
of it a change would break, and a test asks it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from cardtoken import __version__
from cardtoken.contract import MAX_REQUESTS, REPLY_EXPIRY, SCHEMA_VERSION, Lane, LookupRequest, LookupResult
from cardtoken.keys import DEAD_LETTERS, QUARANTINE, RESULT_STREAM_PREFIX, queue_name, task_name
from tasks.providers import PROVIDERS

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "docs" / "schemas"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def documents() -> dict[str, dict[str, Any]]:
    """File name → document."""
    requests = {f"{name}-request": _schema(provider.request) for name, provider in PROVIDERS.items()}
    schemas = {**requests, "result": _schema(LookupResult, mode="serialization")}
    files = {f"{name}.schema.json": {"$schema": _DIALECT, **schema} for name, schema in schemas.items()}
    return {**files, "asyncapi.json": _asyncapi(schemas)}


def _schema(model: type[BaseModel], mode: Any = "validation") -> dict[str, Any]:
    schema: dict[str, Any] = _tidied(model.model_json_schema(mode=mode))
    if issubclass(model, LookupRequest):
        # Optional is what may be left out; null is of no field's type.
        schema["properties"] = {name: _not_null(each) for name, each in schema["properties"].items()}
    return schema


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" not in schema:
        return schema
    (only,) = (each for each in schema["anyOf"] if each != {"type": "null"})
    return {**{name: value for name, value in schema.items() if name not in {"anyOf", "default"}}, **only}


def _tidied(value: Any) -> Any:
    """Without pydantic's titles, and with regular expressions as JSON Schema has them (ECMA 262: no ``\\z``)."""
    if isinstance(value, list):
        return [_tidied(each) for each in value]
    if not isinstance(value, dict):
        return value
    tidy = {}
    for name, each in value.items():
        if name == "title" and isinstance(each, str):
            continue
        tidy[name] = each.replace(r"\z", "$") if name == "pattern" and isinstance(each, str) else _tidied(each)
    return tidy


def _asyncapi(schemas: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    channels, operations, messages = {}, {}, {}
    for name in PROVIDERS:
        messages[f"{name}Lookups"] = _celery_message(name)
        for lane in Lane:
            key = f"{name}{lane.capitalize()}"
            channels[key] = {
                "address": queue_name(name, lane),
                "description": _LANES[lane],
                "messages": {"lookups": {"$ref": f"#/components/messages/{name}Lookups"}},
                "bindings": {"redis": {}},
            }
            operations[f"take{key[0].upper()}{key[1:]}"] = {
                "action": "receive",
                "summary": f"Producers LPUSH to the list lookup.{name}.{lane}; workers take from its other end.",
                "channel": {"$ref": f"#/channels/{key}"},
                "reply": {"channel": {"$ref": "#/channels/results"}},
            }
    channels |= {
        "results": {
            "address": RESULT_STREAM_PREFIX + "{replyTo}",
            "description": "A Redis Stream. XREADGROUP and XACK where none may be lost with a consumer, else XREAD.",
            "parameters": {
                "replyTo": {
                    "description": "The request's reply_to. One that begins with reply. expires "
                    f"{REPLY_EXPIRY} s after its last result.",
                    "default": "default",
                }
            },
            "messages": {"result": {"$ref": "#/components/messages/result"}},
        },
        "deadLetters": {
            "address": DEAD_LETTERS,
            "description": "A Redis Stream: lookups that failed for a reason that an operator can act on.",
            "messages": {"deadLetter": {"$ref": "#/components/messages/deadLetter"}},
        },
        "quarantine": {
            "address": QUARANTINE,
            "description": "A Redis Stream: queue entries that are no message.",
            "messages": {"quarantined": {"$ref": "#/components/messages/quarantined"}},
        },
    }
    for key in ("results", "deadLetters", "quarantine"):
        operations[f"write{key[0].upper()}{key[1:]}"] = {"action": "send", "channel": {"$ref": f"#/channels/{key}"}}
    result = {"contentMediaType": "application/json", "contentSchema": {"$ref": "#/components/schemas/result"}}
    messages |= {
        "result": _stream_entry(
            "One result for each lookup. The field `result` is JSON.",
            {
                "lookup_id": {},
                "status": {"enum": ["found", "not_found", "failed"]},
                "provider": {"enum": [*PROVIDERS]},
                "result": result,
            },
        ),
        "deadLetter": _stream_entry(
            "`request` is JSON, as sent; `result` is JSON, as published.", {name: {} for name in _DEAD_LETTER}
        ),
        "quarantined": _stream_entry("`raw` are the entry's bytes.", {name: {} for name in _QUARANTINED}),
    }
    components = {
        "messages": messages,
        "schemas": {name: _moved(schema, name) for name, schema in schemas.items()} | _celery_schemas(),
    }
    for name, schema in schemas.items():
        components["schemas"] |= {
            f"{name}.{inner}": _moved(each, name) for inner, each in schema.get("$defs", {}).items()
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Card-token lookups",
            "version": f"{SCHEMA_VERSION}.0.0",
            "description": "Ask what is behind a payment provider's card token, over Redis. Within schema version "
            f"{SCHEMA_VERSION} fields, brands and categories may be added, and nothing is taken away.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {
                "host": "{host}:6379",
                "protocol": "redis",
                "description": "Redis 6.2 or later, or Valkey; rediss with TLS.",
                "variables": {"host": {"default": "127.0.0.1"}},
            }
        },
        "channels": channels,
        "operations": operations,
        "components": components,
        "x-release": __version__,
    }


_DEAD_LETTER: Final = (
    "lookup_id", "task_id", "provider", "account", "lane", "category", "code", "failed_at", "request", "result",
)  # fmt: skip
_QUARANTINED: Final = ("queue", "reason", "quarantined_at", "raw")
_LANES: Final = {
    Lane.INTERACTIVE: "A Redis list, for lookups for which a person waits.",
    Lane.BULK: "A Redis list, for lookups for which no person waits: retried for up to an hour.",
}


def _celery_message(provider: str) -> dict[str, Any]:
    return {
        "name": task_name(provider),
        "summary": f"A Celery message (protocol 1 or 2) of the task lookup.{provider}, as kombu writes it to a list.",
        "payload": {
            "type": "object",
            "required": ["body", "headers", "properties"],
            "properties": {
                "body": {
                    "type": "string",
                    "contentEncoding": "base64",
                    "contentMediaType": "application/json",
                    "contentSchema": {"$ref": f"#/components/schemas/{provider}-body"},
                },
                "content-type": {"const": "application/json"},
                "content-encoding": {"const": "utf-8"},
                "headers": {
                    "type": "object",
                    "required": ["task", "id"],
                    "properties": {
                        "lang": {"type": "string"},
                        "task": {"const": task_name(provider)},
                        "id": {"type": "string", "minLength": 1, "maxLength": 255, "description": "The task id."},
                        "eta": {"type": ["string", "null"], "format": "date-time"},
                        "expires": {"type": ["string", "number", "null"]},
                    },
                },
                "properties": {
                    "type": "object",
                    "properties": {
                        "delivery_tag": {"type": "string"},
                        "body_encoding": {"const": "base64"},
                        "priority": {"type": "integer"},
                        "delivery_info": {"type": "object"},
                    },
                },
            },
        },
    }


def _celery_schemas() -> dict[str, Any]:
    return {
        f"{name}-body": {
            "description": "Arguments, keyword arguments and Celery's embedded options.",
            "type": "array",
            "prefixItems": [
                {"type": "array", "maxItems": 0},
                {
                    "type": "object",
                    "required": ["requests"],
                    "properties": {
                        "requests": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MAX_REQUESTS,
                            "items": {"$ref": f"#/components/schemas/{name}-request"},
                        }
                    },
                },
                {"type": "object"},
            ],
        }
        for name in PROVIDERS
    }


def _stream_entry(summary: str, fields: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    properties = {name: {"type": "string", **more} for name, more in fields.items()}
    return {"summary": summary, "payload": {"type": "object", "required": [*fields], "properties": properties}}


def _moved(value: Any, owner: str) -> Any:
    """A schema whose own definitions stand among the document's."""
    if isinstance(value, list):
        return [_moved(each, owner) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: each.replace("#/$defs/", f"#/components/schemas/{owner}.") if name == "$ref" else _moved(each, owner)
        for name, each in value.items()
        if name != "$defs"
    }


def breaks(released: Mapping[str, Any], changed: Mapping[str, Any], *, read: bool) -> list[str]:
    """What of a released schema a changed one breaks, as sentences.

    ``read``: the schema is of what we read (requests), where nothing that was taken may be refused; else of what we
    write (results), where nothing that was there may be missing or become something else.
    """
    return list(_breaks(released, changed, released, changed, "", read=read))


def _breaks(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    olds: Mapping[str, Any],
    news: Mapping[str, Any],
    at: str,
    *,
    read: bool,
) -> Iterator[str]:
    old, new = _resolved(old, olds), _resolved(new, news)
    here = at or "the object"
    gone = set(old.get("properties", {})) - set(new.get("properties", {}))
    yield from (f"{at}{name} is gone" for name in sorted(gone))
    needed, was_needed = set(new.get("required", ())), set(old.get("required", ()))
    if read:
        yield from (f"{at}{name} is needed now" for name in sorted(needed - was_needed))
    else:
        yield from (f"{at}{name} may be missing now" for name in sorted(was_needed - needed - gone))
    yield from _narrowed(old, new, here, read=read)
    for name, each in old.get("properties", {}).items():
        if name not in gone:
            yield from _breaks(each, new["properties"][name], olds, news, f"{at}{name}.", read=read)


def _narrowed(old: Mapping[str, Any], new: Mapping[str, Any], here: str, *, read: bool) -> Iterator[str]:
    here = here.rstrip(".")
    kinds, were = _kinds(new), _kinds(old)
    if (were - kinds) if read else (kinds - were):
        yield f"{here} was {' or '.join(sorted(were))} and is {' or '.join(sorted(kinds))}"
    if "enum" in old or "enum" in new:
        values, before = set(new.get("enum", ())), set(old.get("enum", ()))
        if (before - values) if read or not values else (values - before):
            yield f"{here} may be something else: {sorted(map(str, values ^ before))}"
    for name, worse in (("minLength", 1), ("maxLength", -1), ("minItems", 1), ("maxItems", -1), ("maxProperties", -1)):
        if read and name in new and (name not in old or (new[name] - old[name]) * worse > 0):
            yield f"{here}: {name} is {new[name]} and was {old.get(name, 'open')}"
    for name in ("pattern", "format", "const"):
        if new.get(name) != old.get(name) and (name in new or not read):
            yield f"{here}: {name} is {new.get(name)} and was {old.get(name)}"
    if read and new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield f"{here} takes no other fields now"


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    found = schema.get("type", [])
    kinds = {found} if isinstance(found, str) else set(found)
    for each in schema.get("anyOf", ()):
        kinds |= {"object"} if "$ref" in each else _kinds(each)
    return kinds


def _resolved(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    references = [schema, *schema.get("anyOf", ())]
    for each in references:
        if "$ref" in each:
            found: Mapping[str, Any] = whole["$defs"][each["$ref"].rsplit("/", 1)[1]]
            return {**found, **({"anyOf": schema["anyOf"]} if "anyOf" in schema else {})}
    return schema


def write(folder: Path) -> list[Path]:
    """Write them all; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, document in documents().items():
        path = folder / name
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """0, and the files' names."""
    parser = argparse.ArgumentParser(prog="python -m tools.contract", description=__doc__)
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="FOLDER", help="default: docs/schemas")
    for path in write(parser.parse_args(argv).to):
        sys.stdout.write(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
