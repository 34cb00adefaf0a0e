"""The streaming job of a scenario's feed: its pods, its windows against the stored records, and what it is asked to do.

What does not live here: the Spark operator (spark), and the claims (tests/cluster).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2

from stand import spark
from stand.background import Stand
from stand.cluster import Object, uid
from stand.scenario import ScenarioFeed

CLAIM = "progress"
WINDOWS_S: Mapping[str, int] = {"trade": 10, "spread": 5}
"""Lengths of the windows: short ones, so that many of them end while a scenario lasts."""
STARTED_S = 360.0
"""How long a driver and its executor may take until windows are written: two Javas on a small machine."""
RIGHT_S = 240.0
"""How long windows may take to be right, the corrections by the ledger's minutes included."""

_SQL = Path(__file__).with_name("sql")
_SIZE: Mapping[str, Any] = {"coreRequest": "100m", "memory": "512m"}
_QUICK_PROBE: Mapping[str, Any] = {"periodSeconds": 5, "failureThreshold": 4}
_DRIVER: Mapping[str, Any] = {
    "terminationGracePeriodSeconds": 20,  # a frozen process uses up all of its grace
    "containers": [{"name": "spark-kubernetes-driver", "livenessProbe": _QUICK_PROBE}],
}
_ANALYTICS: Mapping[str, Any] = {
    **{f"{kind}Window": f"{seconds}s" for kind, seconds in WINDOWS_S.items()},
    "watermark": "2s",
    "trigger": "2s",
    "checkpoint": {"volumeClaim": CLAIM},
    "driver": {**_SIZE, "podTemplate": {"spec": _DRIVER}},
    "executor": _SIZE,
}


class StreamingFeed(ScenarioFeed):
    """A feed with a streaming job, whose progress is kept on a volume."""

    def __init__(self, stand: Stand, name: str) -> None:
        super().__init__(stand, name, own_venue=False, spec={"analytics": _ANALYTICS})

    def begin_with_job(self) -> None:
        """Begin the feed, with the claim that its job's progress is kept on."""
        self.stand.make_namespace(self.namespace)
        self.stand.cluster.apply(_claim(self.namespace))
        self.begin()

    def give_back_volume(self) -> None:
        """Empty the volume of a claim that is gone, and give it to whoever asks next; an old progress would mislead."""
        cluster = self.stand.cluster
        for volume in cluster.items("persistentvolumes"):
            if (volume["spec"].get("claimRef") or {}).get("namespace") == self.namespace:
                for path in Path(volume["spec"]["hostPath"]["path"]).iterdir():
                    shutil.rmtree(path)
                name = str(volume["metadata"]["name"])
                cluster.kubectl("patch", "persistentvolume", name, '--patch={"spec": {"claimRef": null}}')

    def job(self) -> Object:
        """Return the SparkApplication, empty where there is none."""
        return spark.job(self.stand, self.namespace)

    def job_pods(self, role: str) -> list[Object]:
        """Return the job's pods of a role, `driver` or `executor`, that run and are here to stay."""
        found = self.stand.cluster.pods(self.namespace, f"spark-role={role}")
        return [pod for pod in found if (pod.get("status") or {}).get("phase") == "Running"]

    def driver(self) -> Object:
        """Return the driver that runs, empty where none does."""
        return next(iter(self.job_pods("driver")), {})

    def await_job(self, *, not_driver: Object | None = None) -> Object:
        """Wait until the job is ready with a driver, another than `not_driver`, and an executor; return the driver."""
        old = uid(not_driver) if not_driver else ""

        def works() -> Object | None:
            driver = self.driver()
            fresh = driver and uid(driver) != old and self.job_pods("executor")
            return driver if fresh and self.condition("AnalyticsReady")["status"] == "True" else None

        found: Object = self.until(works, STARTED_S, f"driver and executor of {self.name} to work")
        return found

    def windows(self) -> int:
        """Return how many windows there are, of trades and of spreads; 0 before there are tables."""
        found = self._query("SELECT (SELECT count(*) FROM trade_metrics) + (SELECT count(*) FROM spread_metrics)")
        return int(found[0][0]) if found else 0

    def await_windows(self, more: int) -> None:
        """Wait until so many more windows are there than now."""
        target = self.windows() + more
        self.until(lambda: self.windows() >= target, STARTED_S, f"{more} more windows of {self.name}, {target} in all")

    def prove_windows(self) -> int:
        """Wait until every window that ended before now is what the stored records make; return how many there are."""
        before = datetime.now(UTC)
        last: list[tuple[Any, ...]] = []

        def right() -> bool:
            last[:] = [
                (kind, *row)
                for kind, seconds in WINDOWS_S.items()
                for row in self._query(
                    (_SQL / f"wrong_{kind}_windows.sql").read_text(), length=f"{seconds} s", before=before
                )
            ]
            return not last

        try:
            self.until(right, RIGHT_S, f"the windows of {self.name} to be right")
        except BaseException:
            print(f"{self.name}: {len(last)} windows are wrong, the first ones {last[:5]}")  # noqa: T201
            raise
        return self.windows()

    def alerts(self) -> int:
        """Return how many alerts were raised."""
        return int(self._query("SELECT count(*) FROM alerts")[0][0])

    def _query(self, text: str, **values: Any) -> list[tuple[Any, ...]]:
        with self._dsn() as dsn, closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            try:
                cursor.execute(text, values)
            except psycopg2.errors.UndefinedTable:
                return []
            return list(cursor.fetchall())


def _claim(namespace: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": CLAIM, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
