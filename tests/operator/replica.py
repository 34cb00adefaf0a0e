"""A process that takes part in the election and writes whenever its guard lets it; each step is a line of JSON.

Run as `python replica.py KUBECONFIG NAMESPACE IDENTITY LEASE_S`. Ends on SIGTERM after giving the lease up (exit
0), and with 3 when the lease is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time

from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import ApiError, LostLeadership, NotLeader
from marketfeed_operator.api.leader import Leadership
from marketfeed_operator.objects import CONFIG_MAP

LOST = 3


def say(step: str, leadership: Leadership) -> None:
    """Print one step with its time and whether the lease is held."""
    sys.stdout.write(json.dumps({"step": step, "at": time.monotonic(), "held": leadership.held()}) + "\n")
    sys.stdout.flush()


async def write(cluster: Cluster, leadership: Leadership, namespace: str, identity: str) -> None:
    """Write the replica's own ConfigMap over and over; say each success and each refusal."""
    for number in itertools.count():
        metadata = {"name": identity, "namespace": namespace}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"number": str(number)}}
        try:
            await cluster.apply(body, CONFIG_MAP)
        except NotLeader:
            say("refused", leadership)
        except ApiError:
            say("failed", leadership)
        else:
            say("wrote", leadership)
        await asyncio.sleep(0.02)


async def run(kubeconfig: str, namespace: str, identity: str, lease_s: float) -> int:
    """Take part until SIGTERM; return the exit code."""
    cluster = await Cluster.connect(kubeconfig)
    leadership = Leadership(cluster, namespace, identity=identity, lease_s=lease_s)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    parts = (
        leadership.run(),
        write(cluster.guarded_by(leadership.guard), leadership, namespace, identity),
        stop.wait(),
    )
    tasks = [asyncio.create_task(part) for part in parts]
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    await asyncio.wait(left)
    await leadership.release()
    await cluster.close()
    say("ended", leadership)
    return LOST if any(isinstance(task.exception(), LostLeadership) for task in done) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))))
