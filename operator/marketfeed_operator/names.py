"""Names of what a feed consists of. Each fits a label of the domain name system (63 characters), whatever the feed's.

What does not live here: names that the user chooses (topics, groups, secrets).
"""

from __future__ import annotations

from hashlib import blake2b

LONGEST_NAME = 63
_LONGEST_JOB_NAME = 40  # the job's pods append "-driver" or "-<16 digits>-exec-<n>"


def bounded(name: str, longest: int = LONGEST_NAME) -> str:
    """Return `name`, or its beginning and a hash of the whole where it is above `longest` characters."""
    if len(name) <= longest:
        return name
    digest = blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[: longest - len(digest) - 1].rstrip('-')}-{digest}"


def shard(feed: str, index: int) -> str:
    """Return the name of the feed's shard number `index`, counted from 0."""
    return bounded(f"{feed}-ingestor-{index}")


def consumer(feed: str, sink: str) -> str:
    """Return the name of the consumer that fills a sink."""
    return bounded(f"{feed}-consumer-{sink}")


def consumer_group(feed: str, sink: str) -> str:
    """Return the Kafka consumer group of a sink whose feed names none."""
    return f"{feed}-{sink}"


def analytics(feed: str) -> str:
    """Return the name of the feed's streaming job."""
    return bounded(f"{feed}-analytics", _LONGEST_JOB_NAME)
