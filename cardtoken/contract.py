"""The wire models: what producers send and what consumers read.

Every model refuses to show what it holds: secrets are secret types, a card holder's fields stay out of ``repr``,
and validation errors never quote their input.
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    WithJsonSchema,
    field_validator,
)

from cardtoken.secret import CardToken

SCHEMA_VERSION: Final = 1
MAX_REQUESTS: Final = 500
DEFAULT: Final = "default"
#: Result queues whose name begins so are one-off: they expire this many seconds after their last write.
REPLY_PREFIX: Final = "reply."
REPLY_EXPIRY: Final = 300

#: Header of a message that asks again for what has ended as a dead letter: the task id of then.
REPLAY_OF: Final = "lookup_replay_of"

_MAX_REFERENCE = 1024
_MAX_METADATA_KEYS = 16
_MAX_METADATA_BYTES = 2048
MAX_ERROR_MESSAGE: Final = 500
#: RFC 3339, section 5.6: date-time with its mandatory offset.
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Lane(StrEnum):
    """Which queue of a provider: whether a person waits for the answer."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Status(StrEnum):
    FOUND = "found"
    NOT_FOUND = "not_found"
    FAILED = "failed"


class Category(StrEnum):
    """Why a lookup failed. May grow: readers treat one they do not know like ``internal``."""

    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"
    AUTHENTICATION = "authentication"
    INVALID_REQUEST = "invalid_request"
    REJECTED = "rejected"
    PROTOCOL = "protocol"
    EXPIRED = "expired"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Return whether asking again later may succeed without a change by the producer or the operator."""
        return self in {Category.TIMEOUT, Category.UNAVAILABLE, Category.RATE_LIMITED, Category.EXPIRED}

    @property
    def actionable(self) -> bool:
        """Whether an operator can act on it, so that the lookup belongs among the dead letters."""
        return self not in {Category.EXPIRED, Category.INVALID_REQUEST}


class Brand(StrEnum):
    """The card's scheme. May grow: readers treat one they do not know like ``unknown``."""

    VISA = "visa"
    MASTERCARD = "mastercard"
    AMEX = "amex"
    DINERS = "diners"
    DISCOVER = "discover"
    JCB = "jcb"
    UNIONPAY = "unionpay"
    MAESTRO = "maestro"
    VERVE = "verve"
    MEEZA = "meeza"
    MADA = "mada"
    EFTPOS_AU = "eftpos_au"
    RUPAY = "rupay"
    ELO = "elo"
    TROY = "troy"
    UNKNOWN = "unknown"


class Funding(StrEnum):
    CREDIT = "credit"
    DEBIT = "debit"
    PREPAID = "prepaid"
    UNKNOWN = "unknown"


def parse_time(value: object) -> datetime:
    """An RFC 3339 time with offset as an aware datetime in UTC; raises ValueError for anything else."""
    try:
        if isinstance(value, str) and _RFC3339.fullmatch(value):
            value = datetime.fromisoformat(value.upper())
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(UTC)
    except (ValueError, OverflowError):  # a day that no month has; their own words quote the value
        pass
    raise ValueError("must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z")


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC, with ``Z``; the fraction is left out where it is zero."""
    return value.astimezone(UTC).isoformat()[: -len("+00:00")] + "Z"


Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
LookupId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}\z")]
QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}\z")]


def _sized(value: CardToken) -> CardToken:
    if not 1 <= len(value) <= _MAX_REFERENCE:
        raise ValueError(f"must be 1 to {_MAX_REFERENCE} characters")
    if not value.get_secret_value().isprintable():  # half of a surrogate pair is not, nor is a line break
        raise ValueError("must be printable text")
    return value


#: Passed as the serialisation context where a model is written to a queue; without it secrets stay masked.
_WIRE: Final = {"wire": True}


def _wire(value: CardToken, info: SerializationInfo) -> str:
    return value.get_secret_value() if info.context == _WIRE else str(value)


#: A card token, or what leads to one: in clear where it is written to a queue, masked everywhere else.
WireToken = Annotated[
    CardToken, PlainSerializer(_wire, return_type=str, when_used="json"), WithJsonSchema({"type": "string"})
]
Reference = Annotated[
    WireToken,
    AfterValidator(_sized),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _MAX_REFERENCE}),
]


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
        # What is written has every field, null where there is nothing to say.
        json_schema_serialization_defaults_required=True,
    )


class LookupRequest(_Model):
    """One lookup, as a producer sends it. A subclass for each provider adds one field: the provider's own reference.

    ``lookup_id``, ``account`` and ``reply_to`` appear in logs and dashboards: they must carry nothing personal.
    ``metadata`` (at most 16 keys, 2,048 bytes of keys and values in UTF-8) is echoed in the result and shown nowhere.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    #: The field that a subclass adds.
    reference_field: ClassVar[str]

    lookup_id: LookupId | None = None
    account: QueueName = DEFAULT
    reply_to: QueueName = DEFAULT
    requested_at: Time | None = None
    deadline: Time | None = None
    metadata: dict[str, str] = Field(
        default_factory=dict, repr=False, json_schema_extra={"maxProperties": _MAX_METADATA_KEYS}
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        added = [name for name in cls.model_fields if name not in LookupRequest.model_fields]
        if len(added) != 1:
            raise TypeError(f"{cls.__name__} adds {added or 'no field'}; a request adds one, the provider's reference")
        cls.reference_field = added[0]

    @property
    def reference(self) -> CardToken:
        """What the provider is asked about. Raises TypeError for a request that is not of a provider."""
        if type(self) is LookupRequest:
            raise TypeError("a LookupRequest has no reference: use the request model of a provider")
        reference: CardToken = getattr(self, self.reference_field)
        return reference

    @field_validator("metadata")
    @classmethod
    def _bounded(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) > _MAX_METADATA_KEYS:
            raise ValueError(f"must have at most {_MAX_METADATA_KEYS} keys")
        try:
            size = sum(len(k.encode()) + len(v.encode()) for k, v in value.items())
        except UnicodeEncodeError:
            raise ValueError("must be valid Unicode") from None
        if size > _MAX_METADATA_BYTES:
            raise ValueError(f"must be at most {_MAX_METADATA_BYTES} bytes")
        return value

    def to_wire(self) -> dict[str, Any]:
        """The JSON object to put into a message's ``requests``, card token included."""
        return self.model_dump(mode="json", context=_WIRE, exclude_none=True, exclude_unset=True)


class Customer(_Model):
    """The card holder, as far as the provider told. Kept out of every ``repr``."""

    id: str | None = Field(default=None, repr=False)
    name: str | None = Field(default=None, repr=False)
    email: str | None = Field(default=None, repr=False)
    phone: str | None = Field(default=None, repr=False)


class TokenRecord(_Model):
    """What is behind a card token, the same for every provider. What the provider did not give is None."""

    value: WireToken
    brand: str | None = Field(default=None, examples=[str(each) for each in Brand])
    brand_raw: str | None = None
    first6: str | None = Field(default=None, repr=False)
    last4: str | None = None
    exp_month: int | None = None
    exp_year: int | None = None
    funding: str | None = Field(default=None, examples=[str(each) for each in Funding])
    product: str | None = None
    issuer: str | None = None
    country: str | None = None
    credit_limit: str | None = Field(default=None, repr=False)
    created_at: Time | None = None
    customer: Customer | None = Field(default=None, repr=False)
    transaction_id: str | None = None
    receipt_id: str | None = None


class LookupFailure(_Model):
    """Why a lookup failed: ``code`` and ``message`` are the provider's own where it gave them."""

    category: str = Field(examples=[str(each) for each in Category])
    code: str | None = None
    message: str = Field(max_length=MAX_ERROR_MESSAGE)
    http_status: int | None = None
    retryable: bool


class LookupResult(_Model):
    """The one result of one lookup. Unknown fields are ignored, so that older readers read newer writers."""

    schema_version: int = SCHEMA_VERSION
    lookup_id: str
    task_id: str
    provider: str
    account: str
    status: Literal[Status.FOUND, Status.NOT_FOUND, Status.FAILED]
    token: TokenRecord | None = None
    error: LookupFailure | None = None
    attempts: int
    requested_at: Time
    completed_at: Time
    replay_of: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict, repr=False)

    def to_json(self) -> str:
        """The entry's ``result`` field, card token included."""
        return self.model_dump_json(context=_WIRE)

    @classmethod
    def from_json(cls, data: str | bytes) -> Self:
        """Read an entry's ``result`` field; raises ``pydantic.ValidationError``, which quotes nothing of it."""
        return cls.model_validate_json(data)
