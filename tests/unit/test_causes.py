"""Why pods do not run: which cause is chosen, how it is worded, and what is never passed on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed_operator.causes import LONGEST_TEXT, cause, presentable, redact
from observations import pod


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """Return a container that waits."""
    return {"name": "service", "state": {"waiting": {"reason": reason, "message": message}}, "restartCount": 0, **more}


def crashed(code: int, message: str = "", restarts: int = 5, name: str = "service") -> dict[str, Any]:
    """Return a container that the kubelet waits to start again."""
    ended = {"exitCode": code, "reason": "Error", "message": message}
    return {
        "name": name,
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
        "lastState": {"terminated": ended},
    }


OOM = {
    "name": "service",
    "ready": False,
    "restartCount": 1,
    "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
}
UNSCHEDULABLE: dict[str, Any] = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes: too little memory",
        }
    ],
    "phase": "Pending",
}


@pytest.mark.parametrize(
    ("seen", "reason", "words"),
    [
        (pod("a", containers=[waiting("ErrImagePull", "rpc error")]), "ImagePullBackOff", "marketfeed/services:1"),
        (pod("a", containers=[waiting("ImagePullBackOff")]), "ImagePullBackOff", "marketfeed/services:1"),
        (pod("a", containers=[waiting("InvalidImageName")]), "ImagePullBackOff", "cannot be pulled"),
        (
            pod("a", containers=[waiting("CreateContainerConfigError", 'secret "timescale" not found')]),
            "CreateContainerConfigError",
            'secret "timescale" not found',
        ),
        (
            pod("a", containers=[waiting("CreateContainerError", "no such file")]),
            "CreateContainerError",
            "no such file",
        ),
        (pod("a", containers=[crashed(1, "first\nlast words\n")]), "CrashLoopBackOff", "exit code 1: last words"),
        (pod("a", containers=[crashed(2, "TOPICS is not set")]), "BadConfiguration", "exit code 2: TOPICS is not set"),
        (pod("a", containers=[OOM]), "OOMKilled", "raise its limit"),
        (pod("a", init=[crashed(1, "no database", name="migrate")]), "MigrationFailed", "init container migrate"),
        (pod("a", **UNSCHEDULABLE), "Unschedulable", "0/3 nodes"),
        (pod("a", phase="Failed", reason="Evicted", message="low on memory"), "Evicted", "low on memory"),
    ],
)
def test_each_state_of_a_pod_has_its_reason(seen: Any, reason: str, words: str) -> None:
    """The reason is the cluster's own word or ours, and the message holds what a person needs."""
    found = cause([seen])
    assert found is not None
    assert found.reason == reason
    assert words in found.message
    assert "pod a-x" in found.message


def test_a_running_pod_has_no_cause() -> None:
    """A ready container is well, whatever it went through before."""
    container = {**crashed(1), "ready": True, "state": {"running": {}}}
    assert cause([pod("a", containers=[container])]) is None
    assert cause([]) is None


def test_a_crash_loop_stays_one_while_the_container_runs_in_between() -> None:
    """Waiting, running for a moment, ended: the cause is the same, so that a status does not follow each turn."""
    loop = crashed(1, "boom")
    states: tuple[Any, ...] = (loop["state"], {"running": {}}, {"terminated": loop["lastState"]["terminated"]})
    assert len({cause([pod("a", containers=[{**loop, "state": state}])]) for state in states}) == 1


def test_the_pull_of_an_image_has_one_text_for_both_of_its_reasons() -> None:
    """ErrImagePull and ImagePullBackOff take turns; what is said does not."""
    texts = {
        cause([pod("a", containers=[waiting(reason, text)])])
        for reason, text in (("ErrImagePull", "rpc error: not found"), ("ImagePullBackOff", "Back-off pulling image"))
    }
    assert len(texts) == 1


def test_pods_of_the_newest_template_speak_first() -> None:
    """An old pod's bad configuration says nothing about the new ones, which merely lack a node."""
    old = pod("a", "old", containers=[crashed(2)], template="t1", created="2026-11-21T10:00:00Z")
    new = pod("a", "new", template="t2", created="2026-11-21T14:00:00Z", **UNSCHEDULABLE)
    found = cause([old, new])
    assert found is not None
    assert found.reason == "Unschedulable"


def test_a_pod_on_its_way_out_is_not_asked() -> None:
    """What a pod ends with while it is deleted is no cause."""
    leaving = pod("a", containers=[crashed(1)])
    assert (
        cause([{**leaving, "metadata": {**leaving["metadata"], "deletionTimestamp": "2026-11-21T14:00:00Z"}}]) is None
    )


def test_the_most_telling_of_several_causes_is_chosen() -> None:
    """A bad configuration explains more than the crash loop of another pod."""
    found = cause([pod("a", "one", containers=[crashed(1)]), pod("a", "two", containers=[crashed(2)])])
    assert found is not None
    assert found.reason == "BadConfiguration"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach postgresql://feed:s3cr3t@db:5432/market", "cannot reach postgresql://***@db:5432/market"),
        ("postgresql://feed:s3:c/r@3t@db/market", "postgresql://***@db/market"),
        ("redis://:s3cr3t@cache", "redis://***@cache"),
        ("login feed:s3cr3t@db failed", "login ***@db failed"),
        ("host=db password=s3cr3t user=feed", "host=db password=*** user=feed"),
        ("password='s3 cr3t' host=db", "password=*** host=db"),
        ('{"api_key": "s3cr3t"}', '{"api_key": ***}'),
        ("PGPASSWORD=s3cr3t", "PGPASSWORD=***"),
        ("BTCUSDT@trade: not known", "BTCUSDT@trade: not known"),
        ("no route to db:5432", "no route to db:5432"),
        ('secret "timescale" not found', 'secret "timescale" not found'),
    ],
)
def test_secrets_are_blotted_out_and_the_rest_stays(text: str, shown: str) -> None:
    """Passwords of addresses and of named fields go; hosts, streams and names of secrets stay."""
    assert redact(text) == shown


@given(st.text(alphabet=st.characters(exclude_categories=["Z", "C"]), min_size=1), st.text())
def test_no_password_of_an_address_gets_through(password: str, around: str) -> None:
    """Whatever characters a password is made of, the address is shown without it."""
    marked = f"q{password}q"
    shown = presentable(f"{around} postgresql://feed:{marked}@db/market")
    assert f"feed:{marked}" not in shown
    assert len(shown) <= LONGEST_TEXT


@given(st.text(max_size=2000))
def test_texts_are_one_bounded_line(text: str) -> None:
    """A text of any length becomes one line of at most 300 characters."""
    shown = presentable(text)
    assert len(shown) <= LONGEST_TEXT
    assert len(shown.splitlines()) <= 1
