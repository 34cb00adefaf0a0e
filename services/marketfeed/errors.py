"""The exceptions that cross module borders; each docstring is the default message.

What does not live here: errors that one module raises and handles by itself.
"""

from __future__ import annotations

from inspect import getdoc


class MarketfeedError(Exception):
    """Something that marketfeed can name went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (getdoc(type(self)) or "").partition("\n")[0])


class ConfigurationError(MarketfeedError):
    """The configuration cannot be used; the message says what to change. A process ends with exit code 2."""


class BadInput(MarketfeedError):
    """Input that cannot be taken as it is. It is never dropped: its bytes go to quarantine with `error_type`.

    `error_type` is a short snake_case word of the taxonomy, fit for a metric's label and a header:
    `not_json`, `unknown_type`, `missing_field`, `wrong_type`, `not_a_number`, `out_of_range`, `refused_by_sink`.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


class BadFrame(BadInput):
    """A venue's frame that cannot be understood."""


class BadRecord(BadInput):
    """A record from a topic that cannot be decoded or stored."""


class Unavailable(MarketfeedError):
    """Something outside (venue, broker, database) cannot be reached now; the caller waits and tries again."""
