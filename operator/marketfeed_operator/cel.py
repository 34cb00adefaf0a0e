"""The rules over several fields once more, in the language that an API server checks them in (CEL).

A document that breaks a rule is refused by `kubectl apply` with the sentence that `marketfeed plan` says. Every
function of `rules` is accounted for: by checks here, or by a reason why the schema's own words say it (`BY_SCHEMA`).
Two checks stand here alone, because they compare a document with the one before. What venues allow comes from their
modules. What does not live here: the schema around the rules (crd) and what one field may hold (models, fields).

Patterns are checked by rules too, since an API server answers a pattern's mismatch with the pattern and not with a
sentence. In CEL a blank is one of ASCII's, in the models one of Unicode's: the models are the stricter ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from marketfeed.exchanges import NAMES, venue
from marketfeed_operator.fields import DURATION, MEANING
from marketfeed_operator.models import USUAL_DEAD_LETTERS, USUAL_TOPICS
from marketfeed_operator.rules import (
    ANALYSED,
    DATABASES,
    LEAST_TRIGGER_MS,
    LEAST_WINDOW_MS,
    MINUTE_MS,
    MOST_IN_FLIGHT,
    WINDOWS,
    WITHOUT_KAFKA,
)


@dataclass(frozen=True, slots=True)
class Check:
    """One CEL rule: `rule` is true of what is right, `says` is the sentence for what is not.

    The sentence's parts between « and » are CEL expressions. `section` is where the rule stands, as spec.sinks[];
    `field`, below it, is what the API server names in its answer. `expresses` is the rule's name in `rules.RULES`, or
    None for what only an API server can tell. No rule stands in a section whose default is `{}`: an API server tries
    rules on that default before it fills in the fields' own.
    """

    expresses: str | None
    section: str
    rule: str
    says: str
    field: str | None = None

    @property
    def path(self) -> str:
        """Return what the API server names in its answer, as spec.sinks[].secretRef."""
        return f"{self.section}.{self.field}" if self.field else self.section

    def schema(self) -> dict[str, Any]:
        """Return the item of `x-kubernetes-validations`."""
        return {
            "rule": self.rule,
            **({"messageExpression": _text(self.says)} if "«" in self.says else {"message": self.says}),
            **({"fieldPath": f".{self.field}"} if self.field else {}),
        }


def matches(pattern: str) -> dict[str, Any]:
    """Return the item of `x-kubernetes-validations` that holds a text to a pattern of `fields`."""
    return Check(None, "", f"self.matches({_raw(pattern)})", f"must be {MEANING[pattern]}").schema()


def _text(sentence: str) -> str:
    """Return the CEL expression of a sentence. By `format`, since `+` is reckoned to join texts of any length."""
    words, parts = re.sub("«.*?»", "%s", sentence), re.findall("«(.*?)»", sentence)
    return f"{_quoted(words)}.format([{', '.join(parts)}])"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _raw(pattern: str) -> str:
    return f"r'{pattern}'"


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(map(_quoted, texts)) + "]"


def _by_venue(value: Callable[[str], Any]) -> str:
    """Return the CEL expression of what `value` says of the feed's venue."""
    return json.dumps({name: value(name) for name in NAMES}).replace('"', "'") + "[self.exchange]"


def _milliseconds(duration: str) -> str:
    """Return the CEL expression of a duration's length; CEL's own durations know no days."""
    number = f"int({duration}.replace('ms', '').replace('s', '').replace('m', '').replace('h', '').replace('d', ''))"
    units = (("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000))
    unit = "".join(f"{duration}.endsWith('{suffix}') ? {length} : " for suffix, length in units)
    return f"{number} * ({unit}86400000)"


def _is_duration(field: str) -> str:
    return f"{field}.matches({_raw(DURATION)})"


_OFFERED = _by_venue(lambda name: sorted(venue(name).channels))
_OFFERED_SHOWN = _by_venue(lambda name: ", ".join(sorted(venue(name).channels)))
_STREAMS = _by_venue(lambda name: venue(name).limits.streams_per_connection)
_LIFETIME = _by_venue(lambda name: int(venue(name).limits.connection_lifetime_s * 1000))
_LIFETIME_SHOWN = _by_venue(lambda name: f"{venue(name).limits.connection_lifetime_s / 3600:g}h")

_DATABASES = _list(DATABASES)
_ANALYTICS = "has(self.analytics) && self.analytics.enabled"
_HAS_DATABASE = f"has(self.sinks) && self.sinks.exists(s, s.type in {_DATABASES})"


def _named(field: str, usual: str) -> str:
    """Return the CEL expression of a topic: what the field says, else the usual one of the venue."""
    return f"(has(self.{field}) ? self.{field} : self.exchange + '.{usual}')"


_DEAD_LETTERS = _named("deadLetter.topic", USUAL_DEAD_LETTERS)
_HOLDS_RECORDS = " || ".join(
    f"('{channel}' in self.channels && {_named(f'kafka.topics.names.{channel}', usual)} == {_DEAD_LETTERS})"
    for channel, usual in USUAL_TOPICS.items()
)

_SHARED_GROUP = (
    "has(s.consumerGroup) && !self.exists_one(t, has(t.consumerGroup) && t.consumerGroup == s.consumerGroup)"
)


def _option(name: str, types: tuple[str, ...]) -> Check:
    return Check(
        "_sink_options_fit_the_type",
        "spec.sinks[]",
        f"!has(self.{name}) || self.type in {_list(types)}",
        f"«self.type» has no such option; it belongs to {' and '.join(types)}",
        name,
    )


def _window(name: str) -> Check:
    """Return the check of a window's length. It divides only by lengths above zero: CEL stops at the first truth."""
    field = f"self.{name}"
    length = f"({_milliseconds(field)})"
    fits = f"({MINUTE_MS} % {length} == 0 || {length} % {MINUTE_MS} == 0)"
    return Check(
        "_windows_fit_minutes",
        "spec.analytics",
        f"!{_is_duration(field)} || {length} >= {LEAST_WINDOW_MS} && {fits}",
        f"{WINDOWS}, not «{field}»",
        name,
    )


CHECKS: tuple[Check, ...] = (
    Check(
        None,
        "spec.exchange",
        "self == oldSelf",
        "the exchange of a feed never changes, and is «oldSelf» here: make another feed for «self»",
    ),
    Check(
        None,
        "spec.kafka.topics.partitions",
        "self >= oldSelf",
        "partitions only grow: must be at least «oldSelf», not «self»",
    ),
    Check(
        "_symbols_or_discovery",
        "spec",
        "has(self.symbols) && size(self.symbols) > 0 || has(self.discovery)",
        "name at least one symbol, as in [BTCUSDT], or add spec.discovery",
        "symbols",
    ),
    Check(
        "_channels_are_the_venues",
        "spec",
        f"self.channels.all(c, c in {_OFFERED})",
        f"«self.exchange» has no channel «self.channels.filter(c, !(c in {_OFFERED}))[0]»; it has «{_OFFERED_SHOWN}»",
        "channels",
    ),
    Check(
        "_a_shard_fits_one_connection",
        "spec",
        f"self.ingest.streamsPerShard <= {_STREAMS}",
        f"must be at most «{_STREAMS}», which is what «self.exchange» allows one connection, "
        "not «self.ingest.streamsPerShard»",
        "ingest.streamsPerShard",
    ),
    Check(
        "_rotation_comes_before_the_cut",
        "spec",
        f"!{_is_duration('self.ingest.rotateAfter')} || {_milliseconds('self.ingest.rotateAfter')} < {_LIFETIME}",
        f"must be below «{_LIFETIME_SHOWN}», when «self.exchange» cuts a connection, not «self.ingest.rotateAfter»",
        "ingest.rotateAfter",
    ),
    Check(
        "_shards_keep_to_the_limit",
        "spec",
        "!has(self.ingest.shards) || self.ingest.shards <= self.ingest.maxShards",
        "must be at most «self.ingest.maxShards», which is spec.ingest.maxShards, not «self.ingest.shards»",
        "ingest.shards",
    ),
    Check(
        "_sasl_is_complete",
        "spec",
        "!self.kafka.security.protocol.startsWith('SASL_') || has(self.kafka.security.mechanism)",
        "«self.kafka.security.protocol» needs a mechanism, as SCRAM-SHA-512",
        "kafka.security.mechanism",
    ),
    Check(
        "_sasl_is_complete",
        "spec",
        "!self.kafka.security.protocol.startsWith('SASL_') || has(self.kafka.security.credentialsSecretRef)",
        "«self.kafka.security.protocol» needs the secret with user and password",
        "kafka.security.credentialsSecretRef",
    ),
    Check(
        "_sasl_is_complete",
        "spec",
        "self.kafka.security.protocol.startsWith('SASL_') || !has(self.kafka.security.mechanism)",
        "«self.kafka.security.protocol» uses no mechanism: write protocol: SASL_SSL, or leave the mechanism out",
        "kafka.security.mechanism",
    ),
    Check(
        "_sasl_is_complete",
        "spec",
        "self.kafka.security.protocol.startsWith('SASL_') || !has(self.kafka.security.credentialsSecretRef)",
        "«self.kafka.security.protocol» uses no password: write protocol: SASL_SSL, or leave the secret out",
        "kafka.security.credentialsSecretRef",
    ),
    Check(
        "_sasl_is_complete",
        "spec",
        "self.kafka.security.protocol.endsWith('SSL') || !has(self.kafka.security.caSecretRef)",
        "«self.kafka.security.protocol» is not encrypted: write protocol: SSL or SASL_SSL, or leave the authority out",
        "kafka.security.caSecretRef",
    ),
    Check(
        "_producer_keeps_order",
        "spec",
        f"!(self.kafka.producer.acks in ['all', '-1']) || self.kafka.producer.maxInFlight <= {MOST_IN_FLIGHT}",
        f"must be at most {MOST_IN_FLIGHT} while acks is «self.kafka.producer.acks», "
        "not «self.kafka.producer.maxInFlight»",
        "kafka.producer.maxInFlight",
    ),
    Check(
        "_encoding_has_its_registry",
        "spec",
        "self.kafka.encoding == 'json' || has(self.kafka.schemaRegistry)",
        "encoding «self.kafka.encoding» needs schemaRegistry: {url: …}",
        "kafka.schemaRegistry",
    ),
    Check(
        "_dead_letters_have_their_own_topic",
        "spec",
        f"!({_HOLDS_RECORDS})",
        f"«{_DEAD_LETTERS}» holds records already: give dead letters a topic of their own",
        "deadLetter.topic",
    ),
    Check(
        "_sinks_have_distinct_groups",
        "spec.sinks",
        f"!self.exists(s, {_SHARED_GROUP})",
        f"«self.filter(s, {_SHARED_GROUP})[0].consumerGroup» is the group of "
        f"«self.filter(s, {_SHARED_GROUP}).map(s, s.name)»: each would get a part of the records",
    ),
    Check(
        "_sinks_have_their_secret",
        "spec.sinks[]",
        "self.type == 'stdout' || has(self.secretRef)",
        "«self.type» needs the secret with its connection string, as {name: «self.name», key: dsn}",
        "secretRef",
    ),
    Check(
        "_sinks_fit_kafka",
        "spec",
        f"self.kafka.enabled || !has(self.sinks) || self.sinks.all(s, s.type in {_list(WITHOUT_KAFKA)})",
        f"«self.sinks.filter(s, !(s.type in {_list(WITHOUT_KAFKA)}))[0].type» is filled from Kafka: "
        f"set spec.kafka.enabled to true, or use {' or '.join(WITHOUT_KAFKA)}",
        "sinks",
    ),
    _option("retention", DATABASES),
    _option("compressAfter", ("timescaledb",)),
    _option("maxLength", ("redis",)),
    Check(
        "_rows_are_compressed_before_they_go",
        "spec.sinks[]",
        "!has(self.retention) || !has(self.compressAfter)"
        f" || !{_is_duration('self.retention')} || !{_is_duration('self.compressAfter')}"
        f" || {_milliseconds('self.compressAfter')} < {_milliseconds('self.retention')}",
        "«self.compressAfter» is not below retention, «self.retention»: nothing would ever be compressed",
        "compressAfter",
    ),
    Check(
        "_analytics_have_input_and_output",
        "spec",
        f"!({_ANALYTICS}) || self.kafka.enabled",
        "analytics read Kafka: set spec.kafka.enabled to true",
        "analytics.enabled",
    ),
    Check(
        "_analytics_have_input_and_output",
        "spec",
        f"!({_ANALYTICS}) || self.channels.exists(c, c in {_list(ANALYSED)})",
        f"analytics need one of {', '.join(ANALYSED)}: add it",
        "channels",
    ),
    Check(
        "_analytics_have_input_and_output",
        "spec",
        f"!({_ANALYTICS}) || {_HAS_DATABASE}",
        f"analytics need a sink of type {', '.join(DATABASES)} for their results",
        "analytics",
    ),
    Check(
        "_analytics_have_input_and_output",
        "spec",
        f"!({_ANALYTICS}) || !({_HAS_DATABASE}) || !has(self.analytics.sink)"
        f" || self.sinks.exists(s, s.type in {_DATABASES} && s.name == self.analytics.sink)",
        f"«self.analytics.sink» is not one of «self.sinks.filter(s, s.type in {_DATABASES}).map(s, s.name)»",
        "analytics.sink",
    ),
    Check(
        "_analytics_have_input_and_output",
        "spec.analytics",
        "!self.enabled || !has(self.checkpoint.location) || !has(self.checkpoint.volumeClaim)",
        "name location or volumeClaim, not both",
        "checkpoint",
    ),
    _window("tradeWindow"),
    _window("spreadWindow"),
    Check(
        "_batches_have_their_time",
        "spec.analytics",
        f"!{_is_duration('self.trigger')} || {_milliseconds('self.trigger')} >= {LEAST_TRIGGER_MS}",
        f"must be at least {LEAST_TRIGGER_MS}ms, not «self.trigger»",
        "trigger",
    ),
)

BY_SCHEMA: Mapping[str, str] = {
    "_symbols_are_distinct": "both lists are sets: x-kubernetes-list-type",
    "_channels_are_distinct": "the list is a set: x-kubernetes-list-type",
    "_sinks_have_distinct_names": "the list is a map by name: x-kubernetes-list-type",
}
"""Rules that need no CEL, and what in the schema says them."""
