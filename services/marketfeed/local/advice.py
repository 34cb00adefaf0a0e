"""What to do about what commonly goes wrong on one machine, found in the words of whoever complained."""

from __future__ import annotations

_ADVICE = (
    (
        ("No space left on device", "DiskFull", "Disk quota exceeded"),
        "The disk is full: free some space, or name another disk with --keep DIR",
    ),
    (
        ("Cannot allocate memory", "OutOfMemoryError", "insufficient memory", "could not map anonymous shared memory"),
        "Memory is short: a run takes about 1 GiB, 2.5 GiB with analytics; end what else runs, or try --no-analytics",
    ),
    (
        ("Address already in use", "address already in use", "Failed to bind"),
        "Another program took the port: start the run again",
    ),
    (("Too many open files",), "The limit of open files is too low: raise it with `ulimit -n 4096`"),
    (
        ("Permission denied", "Operation not permitted"),
        "Something is not allowed here: look at who owns the folder that is named",
    ),
)


def advice(complaint: str) -> str | None:
    """Return a sentence that says what to do about an error's text; None for an error that nobody foresaw."""
    return next((sentence for words, sentence in _ADVICE if any(word in complaint for word in words)), None)
