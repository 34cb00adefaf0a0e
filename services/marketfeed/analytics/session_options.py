"""How the job's Spark session and its checkpoints are set. Pure; starting the session is the business of `queries`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from marketfeed.settings import AnalyticsSettings

JARS_VARIABLE = "MARKETFEED_SPARK_JARS"
"""Names the Kafka connector's archives, separated as in PATH, for sessions that no spark-submit started."""

_MASTER_VARIABLE = "MASTER"
_LOCAL_MASTER = "local[2]"
_STOP_TIMEOUT = "10s"

# A checkpoint holds state in the layout of the code that wrote it: raise this when an analytic's aggregates change.
_STATE_VERSION = 1


def submitted(environ: Mapping[str, str]) -> bool:
    """Tell whether spark-submit sets master, archives and memory: it started this process, or is told what to set."""
    return "PYSPARK_GATEWAY_PORT" in environ or "PYSPARK_SUBMIT_ARGS" in environ


def defaults(settings: AnalyticsSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what is set unless somebody set it otherwise."""
    common = {
        "spark.app.name": f"marketfeed-analytics-{settings.feed}",
        "spark.ui.enabled": "false",
        "spark.log.level": "WARN",
        "spark.executor.syncLogLevel.enabled": "true",  # theirs is INFO else: a page for each batch
        "spark.scheduler.mode": "FAIR",  # a backlog of one query holds the other up no more than by half
    }
    return common if submitted(environ) else common | _alone(environ)


def required(settings: AnalyticsSettings) -> dict[str, str]:
    """Return what the job's results or its figures rest on."""
    return {
        "spark.ui.showConsoleProgress": "false",  # spark-submit's own default would draw bars into the log
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions),
        "spark.sql.streaming.stopTimeout": _STOP_TIMEOUT,
        # A query that finds nothing new says so at each trigger: half of it leaves room for a late one.
        "spark.sql.streaming.noDataProgressEventInterval": str(settings.trigger_ms // 2),
    }


def checkpoint(base: str, table: str, topic: str, channel: str, window_ms: int) -> str:
    """Return the folder or URL of one query's progress.

    State of other windows or of another topic would be taken for its own: each has a folder, and begins at the topic's
    first record.
    """
    return f"{base.rstrip('/')}/v{_STATE_VERSION}/{table}-{topic}-{channel}-{window_ms}ms"


def _alone(environ: Mapping[str, str]) -> dict[str, str]:
    jars = [jar for jar in environ.get(JARS_VARIABLE, "").split(os.pathsep) if jar]
    options = {
        "spark.master": environ.get(_MASTER_VARIABLE) or _LOCAL_MASTER,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    return options | ({"spark.jars": ",".join(jars)} if jars else {})
