"""Names of what a feed consists of. Each fits a label of the domain name system (63 characters), whatever the feed's.

What does not live here: names that the user chooses (topics, groups, secrets).
"""

from __future__ import annotations

import re
from hashlib import blake2b

LONGEST_NAME = 63
_LONGEST_JOB_NAME = 40  # the job's pods append "-driver" or "-<16 digits>-exec-<n>"
_LONGEST_SUBDOMAIN = 253
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def bounded(name: str, longest: int = LONGEST_NAME) -> str:
    """Return `name`, or its beginning and a hash of the whole where it is above `longest` characters."""
    return name if len(name) <= longest else _hashed(name, name, longest)


def _hashed(name: str, whole: str, longest: int) -> str:
    """Return the beginning of `name` and a hash of `whole`, together at most `longest` characters."""
    digest = blake2b(whole.encode(), digest_size=4).hexdigest()
    return f"{name[: longest - len(digest) - 1].rstrip('-.')}-{digest}"


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
    return bounded(_lettered(f"{feed}-analytics"), _LONGEST_JOB_NAME)


def service(feed: str, component: str) -> str:
    """Return the name of the service, and of the disruption budget, over all pods of one component."""
    return bounded(_lettered(f"{feed}-{component}"))


def service_account(feed: str) -> str:
    """Return the name of the account that the feed's ingestors and consumers run under.

    Not the feed's own name: a feed called `default`, or as an application beside it, would take that one's account.
    """
    return bounded(f"{feed}-services")


def topic_resource(topic: str) -> str:
    """Return the name of the resource that stands for a topic: the topic's own where it is a legal one.

    Others get legal characters and a hash of the topic's name, so that `a.B` and `a.b` stay apart.
    """
    if _SUBDOMAIN.fullmatch(topic) and len(topic) <= _LONGEST_SUBDOMAIN:
        return topic
    parts = (re.sub(r"[^a-z0-9]+", "-", part).strip("-") for part in topic.lower().split("."))
    return _hashed(".".join(filter(None, parts)) or "topic", topic, _LONGEST_SUBDOMAIN)


def _lettered(name: str) -> str:
    """Return a name that begins with a letter, as services and streaming jobs must."""
    return f"mf-{name}" if name[0].isdigit() else name


def claim(namespace: str, feed: str) -> str:
    """Return the value of the label by which a feed claims a topic: its namespace, `_` and its name."""
    return bounded(f"{namespace}_{feed}")
