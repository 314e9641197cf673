"""What the body of an error says: the provider's, that of a gateway before it, or of a web framework.

Neither provider publishes the shape of its errors for every status, and what stands before it has shapes of its own.
The keys below are those of OAuth (RFC 6749, section 5.2), of problem details (RFC 9457) and of the gateways and
frameworks in use. Keys are compared without case, underscores and hyphens.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tasks.providers import fields

_CODE_KEYS = ("code", "errorcode")
_MESSAGE_KEYS = (
    "message",
    "errordescription",
    "errormessage",
    "errormsg",
    "msg",
    "description",
    "detail",
    "title",
    "faultstring",
)
_NESTED_KEYS = ("error", "errors", "fault", "detail")
_IDENTIFIER = re.compile(r"[\w.:-]+", re.ASCII)
_NOT_ALNUM = re.compile(r"[^a-z0-9]+")

#: What only an application says of itself; the shape of Afterpay's other APIs.
_OWN_KEYS = frozenset({"errorcode", "errorid", "httpstatuscode"})
#: What says when and where, and never what is missing.
_METADATA = frozenset({"timestamp", "path", "type", "instance", "requestid", "traceid", "correlationid", "kind"})
#: A framework's or a gateway's words for a path that it does not serve.
_NO_SUCH_PATH = re.compile(
    r"\b(rout(e|es|ing)|paths?|endpoints?|ur[il]s?|pages?|proxy|ingress|servlet|listener|static resource|no handler"
    r"|(default|no) backend|no mapping (for|found for)|mapping rule|no such api|api not found|not defined by this api"
    r"|missing authentication token|cannot (get|head|post)|v1/cards)\b",
    re.IGNORECASE,
)
#: What remains of a text that says the status and nothing else.
_THE_STATUS_AGAIN = re.compile(r"(http|error|status|code|404|the|requested|resource|was|is|could|be|not|found)+")
_MAX_TEXTS = 64
_MAX_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Words:
    """A code and a message as they were written: neither is fit to be shown before it is scrubbed."""

    code: str | None = None
    message: str | None = None


def words_of(body: bytes) -> Words:
    """Return the code and the message of an error's body; nothing where it is not a JSON object."""
    try:
        return _words(fields.json_object(body), _MAX_DEPTH)
    except fields.UnreadableError:
        return Words()


def _words(answer: Mapping[str, object], depth: int) -> Words:
    said = {_folded(key): value for key, value in answer.items()}
    code = next(filter(None, (fields.text(said.get(key)) for key in _CODE_KEYS)), None)
    message = next(filter(None, (fields.prose(said.get(key)) for key in _MESSAGE_KEYS)), None)
    error = fields.text(said.get("error"))
    if error is not None:
        # OAuth has a code there, frameworks have the status' phrase.
        if code is None and _IDENTIFIER.fullmatch(error):
            code = error
        elif message is None:
            message = error
    for key in _NESTED_KEYS:
        inner = said.get(key)
        if isinstance(inner, list):
            inner = inner[0] if inner else None
        if isinstance(inner, dict) and depth and (code is None or message is None):
            found = _words(inner, depth - 1)
            code, message = code or found.code, message or found.message
    return Words(code, message)


def speaks_of_a_path(answer: Mapping[str, object]) -> bool:
    """Return whether a 404's JSON is a gateway's or framework's word on the URL, not the provider's on the token.

    It is where it is Spring's error object, names a route, path or URL, or says the status in words and nothing else.
    """
    said = {_folded(key): value for key, value in answer.items()}
    if any(said.get(key) for key in _OWN_KEYS):
        return False
    if "path" in said and not {"timestamp", "status", "error"}.isdisjoint(said):
        return True
    texts = list(_texts(answer))
    if any(_NO_SUCH_PATH.search(text) for text in texts):
        return True
    return bool(texts) and all(_says_the_status_alone(text) for text in texts)


def _says_the_status_alone(text: str) -> bool:
    # "Not Found" is the status' phrase; "not_found" and "NotFound" are codes, which a person chose.
    is_code = " " not in text and "found" in text.lower()
    return not is_code and _THE_STATUS_AGAIN.fullmatch(_folded(text)) is not None


def _texts(answer: Mapping[str, object]) -> Iterator[str]:
    """The texts of an object, the first of them where there are many."""
    queue: list[tuple[object, int]] = [(answer, 0)]
    found = 0
    while queue and found < _MAX_TEXTS:
        value, depth = queue.pop()
        if isinstance(value, str) and value.strip():
            found += 1
            yield value
        elif depth < _MAX_DEPTH and isinstance(value, dict):
            queue += [(each, depth + 1) for key, each in value.items() if _folded(key) not in _METADATA]
        elif depth < _MAX_DEPTH and isinstance(value, list):
            queue += [(each, depth + 1) for each in value[:_MAX_TEXTS]]


def _folded(key: str) -> str:
    return _NOT_ALNUM.sub("", key.lower())
