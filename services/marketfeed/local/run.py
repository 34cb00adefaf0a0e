"""One run from its start to its end: signals, edits of the feed, the picture, the proof, the exit code."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from marketfeed.errors import ConfigurationError, MarketfeedError, Unavailable
from marketfeed.local import kafka, runs
from marketfeed.local.advice import advice
from marketfeed.local.analysis import FETCHING
from marketfeed.local.files import write_atomically
from marketfeed.local.machine import Machine
from marketfeed.local.memory import available_bytes, too_little
from marketfeed.local.observe import Observatory
from marketfeed.local.postgres_binaries import find_binaries
from marketfeed.local.screen import Screen
from marketfeed.local.venue import Market
from marketfeed.local.workload import Workload
from marketfeed.verify import prove, render

LOOK_EVERY_S = 1.0
EDIT_POLL_S = 0.5
STORE_PATIENCE_S = 30.0  # how long the lag may stand still before the last records count as stuck
LEAVE_PATIENCE_S = 5.0  # the same after Ctrl-C, when somebody waits
ANALYSE_PATIENCE_S = 90.0  # how long analytics that have started may stand still: several triggers
STOP_TIMEOUT_S = 60.0
INTERRUPTED = 130

Reload = Callable[[], Workload | None]
"""Returns the workload when the feed was edited since the last call, else None; raises ConfigurationError."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run. `market` None connects to the real venue; `for_s` None runs until Ctrl-C.

    Without `analytics` there are none, whatever the feed says.
    """

    market: Market | None
    for_s: float | None = None
    keep: Path | None = None
    analytics: bool = True


def run(workload: Workload, reload: Reload, options: Options) -> int:
    """Run the workload to its end; return the exit code. Raises MarketfeedError when it cannot be run."""
    if workload.kafka:
        kafka.provide()
        find_binaries()
    with runs.folder(options.keep) as folder:
        return asyncio.run(_live(workload, reload, options, folder))


async def _live(workload: Workload, reload: Reload, options: Options, folder: Path) -> int:
    return await _Run(workload, reload, options, folder).live()


class _Run:
    """What one run knows while it lasts."""

    def __init__(self, workload: Workload, reload: Reload, options: Options, folder: Path) -> None:
        self._workload = workload
        self._reload = reload
        self._options = options
        self._folder = folder
        self._record = runs.new(workload.feed, folder, kept=options.keep is not None)
        self._screen = Screen()
        self._analytics = options.analytics and self._has_room()
        self._machine = Machine(self._allowed(workload), options.market, folder, self._screen)
        self._asked_to_stop = asyncio.Event()

    async def live(self) -> int:
        """Start, run, end in order."""
        runs.save(self._record)
        with self._signals():
            try:
                code = await self._from_start_to_proof()
            except (MarketfeedError, OSError) as error:
                self._keep_logs()
                help_ = advice(str(error))
                if help_ is not None:
                    self._screen.warn(help_)
                if isinstance(error, OSError):
                    raise MarketfeedError(str(error)) from error
                raise
            else:
                if code != 0:
                    self._keep_logs()
                return code
            finally:
                await self._end()

    async def _from_start_to_proof(self) -> int:
        if not await self._unless_stopped(self._machine.start()):
            return 0
        await self._show()
        return await self._finish()

    async def _show(self) -> None:
        """Run with the live picture until the time is over or somebody stops us."""
        self._screen.say(f"Where everything answers: {self._folder / 'endpoints.json'}")
        self._screen.say(f"Logs: {self._folder / 'logs'}")
        if any(shard.settings.publisher == "stdout" for shard in self._workload.shards):
            self._screen.say(f"Records: {self._folder / 'logs' / '*.stdout'}")
        if self._options.for_s is None:
            self._screen.say("Ctrl-C ends the run in order")
        with self._screen:
            duration = asyncio.sleep(self._options.for_s) if self._options.for_s else asyncio.Event().wait()
            await self._unless_stopped(duration, self._look(), self._edits())
            self._screen.clear()

    async def _look(self) -> None:
        """Keep the picture up to date."""
        observatory = Observatory(self._machine, self._workload.feed, self._options.for_s)
        while True:
            self._screen.show(await observatory.look())
            await asyncio.sleep(LOOK_EVERY_S)

    async def _edits(self) -> None:
        """Take edits of the feed over; one that cannot be is told, and the run goes on as it was."""
        workload: Workload | None = None
        while True:
            try:
                workload = await asyncio.to_thread(self._reload) or workload
                if workload is not None:
                    await self._machine.apply(self._allowed(workload))
                    self._screen.say(f"The edited feed is running: {len(workload.streams)} streams")
                    workload = None
                await self._machine.settle()
            except Unavailable as error:
                self._screen.warn(f"The edited feed must wait: {error}")
            except ConfigurationError as error:
                workload = None
                self._screen.warn(f"The edited feed is not taken over, the run goes on as before: {error}")
            await asyncio.sleep(EDIT_POLL_S)

    async def _finish(self) -> int:
        """Drain; after the full time of `--for`, prove. Return the exit code."""
        full_time = not self._asked_to_stop.is_set()
        self._screen.say("Draining: the ingestors deliver, the consumers store what is left")
        leaving = None if full_time else asyncio.create_task(self._machine.stop_analysis())
        stuck = await self._machine.drain_shards()
        left = await self._machine.stored(STORE_PATIENCE_S if full_time else LEAVE_PATIENCE_S)
        stuck += await self._machine.stop_consumers()
        if left:
            self._screen.warn(f"Records in Kafka that are not in the database: at least {left:,}")
        analysed = await self._finish_analysis() if full_time else False
        stuck += await (leaving or self._machine.stop_analysis())
        if stuck:
            self._screen.warn(f"{', '.join(stuck)} could not finish in order")
        if not full_time:
            return 0
        await self._settle_metrics()
        complete = await self._prove()
        return 0 if complete and analysed and not left and not stuck else 1

    async def _finish_analysis(self) -> bool:
        """Let analytics, where they still run, finish with what there is; return whether they have."""
        if self._machine.analysis.service is None:
            return True
        fetching = self._machine.analysis.state == FETCHING
        self._screen.say(
            "Waiting for analytics: Spark is still being fetched; Ctrl-C goes on without them"
            if fetching
            else "Waiting for analytics to finish with the last records"
        )
        task = asyncio.create_task(self._machine.analysed(ANALYSE_PATIENCE_S))
        left = task.result() if await self._unless_interrupted(task) else "whatever it was, nobody waited for it"
        if left is not None:
            self._screen.warn(f"Analytics did not finish; what is left: {left}")
        return left is None

    async def _unless_interrupted(self, task: asyncio.Task[str | None]) -> bool:
        """Wait for the task, and give it up at Ctrl-C; return whether it is done."""
        stop = asyncio.create_task(self._asked_to_stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.done()
        finally:
            for waiting in (task, stop):
                waiting.cancel()

    async def _settle_metrics(self) -> None:
        """Correct what the stream did not get right, and say how much that was."""
        if not self._analytics:
            return
        corrected = await self._machine.settle_metrics()
        if corrected:
            self._screen.say(f"Windows computed anew from the stored records at the end: {corrected}")

    def _has_room(self) -> bool:
        """Tell whether there is memory for analytics, where the feed has any; a person is told when there is not."""
        problem = too_little(available_bytes()) if self._workload.analytics is not None else None
        if problem is not None:
            self._screen.say(problem)
        return problem is None

    def _allowed(self, workload: Workload) -> Workload:
        """Return what of the workload runs on this machine."""
        return workload if self._analytics else replace(workload, analytics=None)

    async def _prove(self) -> bool:
        """Read the database back, print the proof and remember it; return whether it is complete."""
        if self._machine.dsn is None:
            self._screen.say("Without Kafka nothing is stored, so there is nothing to prove")
            return True
        analysed = self._analytics and self._workload.analytics is not None
        proof = await asyncio.to_thread(prove, self._machine.dsn, whole_metrics=analysed)
        self._record = runs.with_proof(self._record, proof.to_json())
        runs.save(self._record)
        write_atomically(self._folder / "proof.json", json.dumps(proof.to_json(), indent=1) + "\n")
        self._screen.say("\n".join(["", *render(proof)]))
        return proof.complete

    def _keep_logs(self) -> None:
        """Leave the logs of a run that went wrong where they outlive a temporary folder."""
        try:
            place = self._folder / "logs" if self._record.kept else runs.keep_logs(self._record)
        except OSError as error:
            self._screen.warn(f"The logs of this run could not be kept: {error}")
        else:
            self._screen.warn(f"The logs of this run are in {place}")

    async def _end(self) -> None:
        """Stop everything, and leave nothing but what the user wanted kept."""
        try:
            await asyncio.wait_for(self._machine.stop(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._screen.warn("What does not end by itself is killed")
            self._machine.kill()
        if self._record.kept:
            verify = "`marketfeed verify` reads it, " if self._workload.kafka else ""
            self._screen.say(f"Kept in {self._folder}: {verify}the same --keep goes on with it")
            return
        self._machine.discard()
        if self._asked_to_stop.is_set():
            self._screen.say("Everything is stopped, nothing is left behind")

    async def _unless_stopped(self, *works: Coroutine[Any, Any, Any]) -> bool:
        """Run until the first of `works` ends; return False when a signal came first. Raises what went wrong."""
        tasks = [asyncio.create_task(work) for work in works]
        stop = asyncio.create_task(self._asked_to_stop.wait())
        try:
            await asyncio.wait({*tasks, stop, self._machine.failed}, return_when=asyncio.FIRST_COMPLETED)
            ended = [task for task in (self._machine.failed, *tasks) if task.done()]
            for task in ended:
                task.result()
            return bool(ended)
        finally:
            for task in (*tasks, stop):
                task.cancel()
            await asyncio.wait({*tasks, stop})

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let the first Ctrl-C (or SIGTERM, or the terminal's end) end the run in order, the second at once."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._signalled)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _signalled(self) -> None:
        if self._asked_to_stop.is_set():
            self._abandon()
        self._asked_to_stop.set()
        self._screen.say("Stopping in order; Ctrl-C again kills everything at once")

    def _abandon(self) -> None:
        """Kill everything and leave at once."""
        self._machine.kill()
        if not self._record.kept:
            self._machine.discard()
            shutil.rmtree(self._folder, ignore_errors=True)
        sys.stdout.flush()
        os._exit(INTERRUPTED)
