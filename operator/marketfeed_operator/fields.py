"""The scalar types of a MarketFeed: names, durations, URLs and references, each with the text that says what is right.

What does not live here: the sections of a MarketFeed (models) and rules over several fields (rules).
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from marketfeed import durations
from marketfeed.exchanges import NAMES as EXCHANGES

DURATION = r"^[1-9][0-9]{0,8}(ms|s|m|h|d)$"
_NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_SECRET_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"  # noqa: S105 - the shape of a name
_SECRET_KEY = r"^[-._a-zA-Z0-9]{1,253}$"  # noqa: S105 - the shape of a name
_SYMBOL = r"^[A-Z0-9][-_./A-Z0-9]{0,39}$"
_TOPIC = r"^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,248}$"
_GROUP = r"^[^\s]{1,255}$"
_WEBSOCKET_URL = r"^wss?://[^\s/?#]+(/[^\s?#]*)?$"
_HTTP_URL = r"^https?://[^\s/?#]+(/[^\s?#]*)?$"
_BROKERS = r"^[^\s,:]+:[0-9]{1,5}(,[^\s,:]+:[0-9]{1,5})*$"
_MEMORY = r"^[1-9][0-9]{0,5}[kmgt]$"
_CORES = r"^([0-9]{1,6}m|[0-9]{1,3}(\.[0-9]{1,3})?)$"
_HEADER = r"^[^\s,=]+=[^,]*$"

MEANING = {
    DURATION: "a duration: a whole number and one unit of ms, s, m, h or d, as in 2s or 7d",
    _NAME: "a name: up to 63 lower-case letters, digits and inner '-', as in binance-spot",
    _SECRET_NAME: "the name of a secret: lower-case letters, digits, '-' and '.', as in timescale",
    _SECRET_KEY: "a key inside a secret: letters, digits, '-', '_' and '.', as in dsn",
    _SYMBOL: "a symbol: the venue's own name in upper case, as in BTCUSDT",
    _TOPIC: "a Kafka topic: up to 249 letters, digits, '.', '_' and '-', not starting with '.', as in binance.trades",
    _GROUP: "a consumer group: text without blanks, as in binance-buffer",
    _WEBSOCKET_URL: "a websocket URL without a query, as in wss://stream.binance.com:9443",
    _HTTP_URL: "an HTTP URL without a query, as in https://api.binance.com",
    _BROKERS: "brokers as host:port, comma-separated, as in kafka-kafka-bootstrap.kafka:9092",
    _MEMORY: "an amount of memory as Spark writes it, as in 1g or 512m",
    _CORES: "an amount of processor cores as Kubernetes writes it, as in 200m or 0.5",
    _HEADER: "a header as name=value without commas, as in environment=production",
}
"""What each pattern means, for people."""


class Duration(str):
    """A length of time as a person writes it, above zero: `250ms`, `2s`, `1m`, `23h`, `7d`."""

    __slots__ = ()

    @property
    def milliseconds(self) -> int:
        """Return the length in ms."""
        return durations.parse_ms(self)

    @classmethod
    def of(cls, milliseconds: int) -> Self:
        """Return the shortest way to write a length of whole ms."""
        return cls(durations.render(milliseconds))

    @property
    def seconds(self) -> float:
        """Return the length in s."""
        return self.milliseconds / 1000

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of the text with its greatest length: nine digits and two letters."""
        return {**handler(core), **_longest(11)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validate as text of the one pattern, which the JSON schema shows too."""
        del source, handler
        text = core_schema.str_schema(pattern=DURATION, strict=True)
        return core_schema.no_info_after_validator_function(cls, text, serialization=core_schema.to_string_ser_schema())


def _known_exchange(name: str) -> str:
    """Refuse what no venue module bears as its name; the error is the one that an enumeration would raise."""
    if name not in EXCHANGES:
        expected = ", ".join(repr(known) for known in EXCHANGES)
        raise PydanticCustomError("enum", "Input should be {expected}", {"expected": expected})
    return name


def _longest(characters: int) -> JsonDict:
    """Tell the schema how long a text is whose pattern bounds it: an API server reckons the cost of rules by that."""
    return {"maxLength": characters}


Exchange = Annotated[str, AfterValidator(_known_exchange), Field(json_schema_extra={"enum": list(EXCHANGES)})]
Name = Annotated[str, Field(pattern=_NAME, json_schema_extra=_longest(63))]
SecretName = Annotated[str, Field(pattern=_SECRET_NAME, json_schema_extra=_longest(253))]
SecretKey = Annotated[str, Field(pattern=_SECRET_KEY, json_schema_extra=_longest(253))]
Symbol = Annotated[str, Field(pattern=_SYMBOL, json_schema_extra=_longest(40))]
TopicName = Annotated[str, Field(pattern=_TOPIC, json_schema_extra=_longest(249))]
GroupName = Annotated[str, Field(pattern=_GROUP, json_schema_extra=_longest(255))]
WebsocketUrl = Annotated[str, Field(pattern=_WEBSOCKET_URL, max_length=1024)]
HttpUrl = Annotated[str, Field(pattern=_HTTP_URL, max_length=1024)]
Brokers = Annotated[str, Field(pattern=_BROKERS, max_length=4096)]
Memory = Annotated[str, Field(pattern=_MEMORY, json_schema_extra=_longest(7))]
Cores = Annotated[str, Field(pattern=_CORES, json_schema_extra=_longest(7))]
Header = Annotated[str, Field(pattern=_HEADER, max_length=1024)]

FreeForm = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
"""A map that is passed on as it is; whoever receives it checks it."""


class Section(BaseModel):
    """Base of every part of a MarketFeed: camelCase names in documents, frozen, and nothing unknown."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        allow_inf_nan=False,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
    )


class SecretReference(Section):
    """One value in a secret of the feed's namespace."""

    name: SecretName
    """Name of the secret."""
    key: SecretKey
    """Key of the value inside the secret."""


class CredentialsReference(Section):
    """A user and its password in one secret of the feed's namespace."""

    name: SecretName
    """Name of the secret."""
    username_key: SecretKey = "username"
    """Key of the user's name."""
    password_key: SecretKey = "password"  # noqa: S105 - the name of a key
    """Key of the password."""
