"""The thresholds of a file that may change at any time, as a mounted ConfigMap does."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from marketfeed.analytics.thresholds import Thresholds, parse
from marketfeed.errors import ConfigurationError
from marketfeed.logs import logger
from marketfeed.settings import AnalyticsSettings

_log = logger("analytics")


class ThresholdsFile:
    """Reads the file again at each call; without a path, the defaults hold.

    `problem` says why the file's present text is not taken; the thresholds from before stay then. Raises
    ConfigurationError when the first text cannot be taken, for nothing is there to stay.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)
        self._lock = Lock()  # two queries and the reconciliation ask
        self._text: bytes | None = None
        self.problem: str | None = None
        with AnalyticsSettings.naming("thresholds_file"):
            self._thresholds = Thresholds() if self._path is None else self._read(self._path)

    def current(self) -> Thresholds:
        """Return the thresholds that hold now."""
        if self._path is not None:
            with self._lock:
                self._renew(self._path)
        return self._thresholds

    def _renew(self, path: Path) -> None:
        before = self._thresholds
        try:
            self._thresholds = self._read(path)
        except ConfigurationError as error:
            if str(error) != self.problem:
                _log.warning("thresholds_kept", reason=str(error))
            self.problem = str(error)
        else:
            self.problem = None
            if self._thresholds != before:
                _log.info("thresholds_changed", **{name: str(value) for name, value in _fields(self._thresholds)})

    def _read(self, path: Path) -> Thresholds:
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
        if text == self._text:
            return self._thresholds
        found = parse(text)
        self._text = text
        return found


def _fields(thresholds: Thresholds) -> list[tuple[str, object]]:
    return [(name, getattr(thresholds, name)) for name in Thresholds.__struct_fields__]
