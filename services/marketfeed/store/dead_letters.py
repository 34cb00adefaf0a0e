"""Sends what could not be taken to the dead-letter topic, and returns once the broker has it.

What a dead letter looks like is decided in `quarantine`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from threading import Event, Lock

from confluent_kafka import KafkaError, KafkaException, Producer

from marketfeed import kafka
from marketfeed.errors import Unavailable
from marketfeed.logs import logger
from marketfeed.quarantine import Rejected, headers
from marketfeed.settings import ConsumerSettings, ProducerSettings

_WAIT_S = 0.2

_log = logger("dead_letters")


class DeadLetters:
    """The dead-letter topic of one consumer; its producer is made with the first letter. Safe for several threads."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._producer: Producer | None = None
        self._making = Lock()

    def send(self, letters: Sequence[Rejected], abandon: Event) -> None:
        """Send the letters and wait until the broker has all of them.

        Raises Unavailable when the broker refuses one, or when `abandon` is set before all are confirmed. Sending them
        again does little harm: the headers of each say which record it is.
        """
        delivery = _Delivery(letters)
        producer = self._ready()
        for index, letter in enumerate(letters):
            self._produce(producer, letter, partial(delivery.report, index), abandon)
        while delivery.waiting and not abandon.is_set():
            producer.flush(_WAIT_S)
        if delivery.problem or delivery.waiting:
            reason = delivery.problem or "no broker has confirmed it"
            raise Unavailable(f"dead-letter topic {self._settings.dead_letter_topic}: {reason}")

    def _ready(self) -> Producer:
        with self._making:
            if self._producer is None:
                config = kafka.producer_config(self._settings.kafka, ProducerSettings(linger_ms=5))
                self._producer = kafka.producer({**config, "delivery.report.only.error": False})
            return self._producer

    def _produce(self, producer: Producer, letter: Rejected, report: partial[None], abandon: Event) -> None:
        """Hand one letter to the producer, waiting while its queue is full."""
        made = headers(
            letter.error_type,
            letter.reason,
            now_us=time.time_ns() // 1000,
            component=f"{self._settings.feed}/{self._settings.sink}",
            source=letter.source,
            group=self._settings.group,
        )
        while not abandon.is_set():
            try:
                producer.produce(
                    self._settings.dead_letter_topic,
                    value=letter.source.value(),
                    key=letter.source.key(),
                    headers=[*made],
                    on_delivery=report,
                )
            except BufferError:
                producer.poll(_WAIT_S)
            except KafkaException as error:
                report(error.args[0], None)
                return
            else:
                return


class _Delivery:
    """What the broker has said about each of some letters."""

    def __init__(self, letters: Sequence[Rejected]) -> None:
        self._letters = letters
        self.waiting = set(range(len(letters)))
        self.problem: str | None = None

    def report(self, index: int, error: KafkaError | None, _message: object) -> None:
        """Note one delivery, or its failure."""
        self.waiting.discard(index)
        if error is None:
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            # It fits into its own topic and not, with the headers, into this one. It cannot be mended by waiting, and
            # must not hold up what comes after it: it stays where it is, and the log says where.
            source = self._letters[index].source
            _log.error(
                "dead_letter_too_large", topic=source.topic(), partition=source.partition(), offset=source.offset()
            )
            return
        self.problem = error.str()
