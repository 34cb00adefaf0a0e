"""The work queue: each key once at a time, urgent ones first, none starved, failures put off."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from marketfeed_operator.workqueue import FIRST_RETRY_S, LONGEST_RETRY_S, URGENT_IN_A_ROW, ShutDown, WorkQueue


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _queue(clock: Clock | None = None) -> WorkQueue[str]:
    return WorkQueue(clock or Clock(), lambda: 1.0)


def _drain(queue: WorkQueue[str]) -> list[str]:
    taken = []
    while (key := queue.pop()) is not None:
        taken.append(key)
        queue.done(key)
    return taken


def test_keys_come_in_their_order_and_once() -> None:
    """A key that waits and is added again neither doubles nor loses its place."""
    queue = _queue()
    for key in ("a", "b", "a", "c"):
        queue.add(key)
    assert queue.depth == 3
    assert _drain(queue) == ["a", "b", "c"]


def test_a_key_in_work_waits_until_that_is_done() -> None:
    """What was added meanwhile is worked on afterwards, once."""
    queue = _queue()
    queue.add("a")
    assert queue.pop() == "a"
    queue.add("a")
    queue.add("a")
    assert queue.depth == 1
    assert queue.pop() is None
    queue.done("a")
    assert _drain(queue) == ["a"]


def test_an_urgent_key_overtakes() -> None:
    """A user's change comes before 500 resyncs, also when its key waits among them already."""
    queue = _queue()
    for number in range(500):
        queue.add(f"resync-{number}")
    queue.add("resync-499", urgent=True)
    assert queue.pop() == "resync-499"
    assert queue.depth == 499


def test_urgency_during_work_is_kept() -> None:
    """A key that a user changes while it is in work overtakes the others afterwards."""
    queue = _queue()
    queue.add("a")
    assert queue.pop() == "a"
    queue.add("b")
    queue.add("a")
    queue.add("a", urgent=True)
    queue.done("a")
    assert queue.pop() == "a"


def test_the_most_urgent_go_first_and_starve_nobody() -> None:
    """Each urgency lets a less urgent key go after three of its own, down to the ordinary one."""
    queue = _queue()
    queue.add("ordinary")
    for number in range(20):
        queue.add(f"new-{number}", urgent=1)
        queue.add(f"changed-{number}", urgent=2)
    order = _drain(queue)
    assert order[:5] == ["changed-0", "changed-1", "changed-2", "new-0", "changed-3"]
    assert order.index("ordinary") == 15
    assert len(order) == len(set(order)) == 41


def test_urgent_keys_starve_nobody() -> None:
    """Of endless urgent keys, at most three in a row go before one that waits."""
    queue = _queue()
    queue.add("ordinary")
    for number in range(20):
        queue.add(f"urgent-{number}", urgent=True)
    assert _drain(queue).index("ordinary") == URGENT_IN_A_ROW


def test_a_delayed_key_comes_when_it_is_due() -> None:
    """Not before, and of several wishes the earliest counts."""
    clock = Clock()
    queue = _queue(clock)
    queue.add_after("a", 60.0)
    queue.add_after("a", 5.0)
    queue.add_after("a", 30.0)
    assert (queue.depth, queue.delayed) == (0, 1)
    clock.now += 4.9
    assert queue.pop() is None
    clock.now += 0.2
    assert _drain(queue) == ["a"]
    clock.now += 1000
    assert _drain(queue) == []


def test_failures_are_put_off_further_and_further_up_to_a_cap() -> None:
    """Each retry's delay doubles from half a second to five minutes; success starts it over."""
    queue = _queue()
    delays = [queue.retry("a") for _ in range(12)]
    assert delays[:3] == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S]
    assert delays[-1] == LONGEST_RETRY_S
    assert queue.failures("a") == 12
    queue.forget("a")
    assert queue.retry("a") == FIRST_RETRY_S


def test_the_oldest_age_counts_what_waits_and_what_is_overdue() -> None:
    """A key in work does not age; one that is due does, though no worker has looked."""
    clock = Clock()
    queue = _queue(clock)
    queue.add_after("late", 5.0)
    assert queue.oldest_s() == 0.0
    queue.add("a")
    clock.now += 3
    assert queue.oldest_s() == 3.0
    assert queue.pop() == "a"
    assert queue.oldest_s() == 0.0
    clock.now += 4
    assert queue.oldest_s() == 2.0


def test_workers_wake_up_for_new_and_for_due_keys() -> None:
    """`get` returns a key added later, one that becomes due, and one whose work another worker ended."""

    async def scenario() -> list[str]:
        queue: WorkQueue[str] = WorkQueue()
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("new")
        taken = [await waiting]
        queue.add("new")
        queue.add_after("due", 0.01)
        taken.append(await queue.get())
        again = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.done("new")
        return [*taken, await again]

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == ["new", "due", "new"]


def test_shutdown_wakes_every_worker() -> None:
    """All that wait are told, and nothing is given out any more."""

    async def scenario() -> list[object]:
        queue: WorkQueue[str] = WorkQueue()
        workers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.add_after("x", 0.0)
        queue.shutdown()
        return await asyncio.gather(*workers, return_exceptions=True)

    assert all(isinstance(result, ShutDown) for result in asyncio.run(asyncio.wait_for(scenario(), 10)))


def test_a_cancelled_worker_takes_no_key_with_it() -> None:
    """A key that is added as a waiting worker is cancelled is there for the next one."""

    async def scenario() -> str:
        queue: WorkQueue[str] = WorkQueue()
        worker = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
        return await queue.get()

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == "a"


class Queueing(RuleBasedStateMachine):
    """Any order of calls against a model: which keys were wished for after their work began."""

    keys = st.sampled_from("abcde")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue: WorkQueue[str] = WorkQueue(self.clock, lambda: 0.5)
        self.wanted: set[str] = set()
        self.due: dict[str, float] = {}
        self.working: set[str] = set()

    @rule(key=keys, urgent=st.integers(0, 2))
    def add(self, key: str, urgent: int) -> None:
        self.queue.add(key, urgent=urgent)
        self.wanted.add(key)

    @rule(key=keys, delay=st.floats(0.1, 20))
    def add_after(self, key: str, delay: float) -> None:
        self.queue.add_after(key, delay)
        self.due[key] = min(self.due.get(key, float("inf")), self.clock.now + delay)

    @rule(key=keys)
    def retry(self, key: str) -> None:
        delay = self.queue.retry(key)
        assert 0 < delay <= LONGEST_RETRY_S
        self.due[key] = min(self.due.get(key, float("inf")), self.clock.now + delay)

    @rule(seconds=st.floats(0.1, 30))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def pop(self) -> None:
        for key in [key for key, due in self.due.items() if due <= self.clock.now]:
            self.wanted.add(key)
            del self.due[key]
        taken = self.queue.pop()
        free = self.wanted - self.working
        assert (taken is None) == (not free)
        if taken is not None:
            assert taken in free
            self.wanted.discard(taken)
            self.working.add(taken)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.queue.done(key)
        self.working.discard(key)

    @invariant()
    def nothing_is_lost_and_nothing_is_doubled(self) -> None:
        assert self.queue.working == self.working
        assert self.queue.depth + self.queue.delayed <= len(self.wanted) + len(self.due)
        assert (self.queue.oldest_s() > 0) <= bool(self.wanted or self.due)


Queueing.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_order_of_calls = Queueing.TestCase


@pytest.mark.parametrize("urgent", [True, False])
def test_done_without_a_new_wish_leaves_nothing(urgent: bool) -> None:  # noqa: FBT001 - a parameter
    """A key that was worked on once does not come back by itself."""
    queue = _queue()
    queue.add("a", urgent=urgent)
    assert _drain(queue) == ["a"]
    assert (queue.depth, queue.delayed, queue.working) == (0, 0, frozenset())
