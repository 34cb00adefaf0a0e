"""The way of a record: rates, lag and latency of each stage, what went wrong, what waits, and the streaming job."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat, timeseries

from marketfeed_operator.dashboards.board import Board, Row, exchange_and_symbol, of_a_series
from marketfeed_operator.dashboards.panels import AMBER, RED, About, bars, figures, lines
from marketfeed_operator.dashboards.queries import PromQl, Query, Sql

STAGES = "Records per stage"
"""Title of the panel that alert rules point at."""

_NO_METRICS = "no metrics: Prometheus has found no pod of a feed"
_RATE = "[$__rate_interval]"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "pipeline",
        "pipeline",
        "How records go from the venue to the tables: how many, how late, and what is lost on the way or waits.",
        [*exchange_and_symbol(), of_a_series("namespace", "Namespace", "up")],
        [
            Row("Rates", _rates()),
            Row("Lag and latency", [*_lag(), *_latency()]),
            Row("Trouble", _trouble()),
            Row("Venue", _venue()),
            Row("Streaming job", _job()),
            Row("Processes", _processes()),
        ],
    )


def _lines(title: str, description: str, unit: str, *queries: Query, width: int = 8) -> timeseries.Panel:
    return lines(About(title, description, unit, width, no_data=_NO_METRICS), *queries)


def _rate(series: str, by: str = "", labels: str = "") -> str:
    """Return a sum of rates, by labels, of the chosen namespaces."""
    chosen = f'namespace=~"$namespace"{labels}'
    return f"sum{f' by ({by})' if by else ''} (rate({series}{{{chosen}}}{_RATE}))"


def _rates() -> list[timeseries.Panel]:
    exchange = ', exchange=~"$exchange"'
    return [
        _lines(
            STAGES,
            "Records per second at each stage. Stages of one feed run level when nothing is behind.",
            "cps",
            PromQl(_rate("marketfeed_records_received_total", labels=exchange), "received"),
            PromQl(_rate("kafka_messages_published_total", labels=exchange), "published"),
            PromQl(_rate("marketfeed_records_consumed_total"), "consumed"),
            PromQl(_rate("marketfeed_rows_stored_total"), "stored"),
            PromQl(_rate("marketfeed_analytics_input_records_total"), "read by the streaming job"),
            width=12,
        ),
        _lines(
            "Received by symbol",
            "Records per second of the chosen symbols.",
            "cps",
            PromQl(
                _rate("marketfeed_records_received_total", "symbol", f'{exchange}, symbol=~"$symbol"'), "{{symbol}}"
            ),
            width=12,
        ),
        _lines(
            "Published",
            "Records per second, by topic.",
            "cps",
            PromQl(_rate("kafka_messages_published_total", "topic"), "{{topic}}"),
        ),
        _lines(
            "Stored",
            "New rows per second, by sink and table.",
            "cps",
            PromQl(_rate("marketfeed_rows_stored_total", "sink, table"), "{{sink}} {{table}}"),
        ),
        _lines(
            "Duplicates",
            "Rows per second that a sink held already: repairs, restarts and overlaps bring them.",
            "cps",
            PromQl(_rate("marketfeed_rows_duplicate_total", "sink, table"), "{{sink}} {{table}}"),
        ),
    ]


def _lag() -> list[timeseries.Panel]:
    return [
        _lines(
            "Lag",
            "Records that a sink is behind the topic's end.",
            "short",
            PromQl('sum by (topic) (marketfeed_lag_records{namespace=~"$namespace"})', "{{topic}}"),
            PromQl(
                'sum by (query) (marketfeed_analytics_lag_records{namespace=~"$namespace"})', "streaming job: {{query}}"
            ),
        ),
        _lines(
            "From the venue to the table",
            "Age of the last stored record when its transaction was committed.",
            "s",
            PromQl('max by (topic) (marketfeed_lag_seconds{namespace=~"$namespace"})', "{{topic}}"),
        ),
        _lines(
            "Time of a batch",
            "How long sinks take to store one batch: 99 of 100 take less.",
            "s",
            PromQl(
                "histogram_quantile(0.99, " + _rate("marketfeed_batch_seconds_bucket", "le, sink") + ")",
                "{{sink}}",
            ),
        ),
    ]


def _latency() -> list[timeseries.Panel]:
    to_ingestor = About(
        "From the venue to the ingestor",
        "From the venue's time of a print to its receipt, of a sample of prints. Clocks that differ show here.",
        "s",
        no_data="no prints in this range",
    )
    to_window = About(
        "From a window's end to its row",
        "How long after its end a window was last written; it contains the watermark and the trigger.",
        "s",
        no_data="no windows in this range: the streaming job writes them",
        limits=[(25, AMBER), (120, RED)],
    )
    sample = lines(to_ingestor, Sql("pipeline/to_ingestor")).max_data_points(60)
    return [sample, lines(to_window, Sql("pipeline/to_window"))]


def _trouble() -> list[timeseries.Panel]:
    nothing = "nothing went wrong"
    dead = About("Dead letters", "Records sent to quarantine per second.", "cps", 8, no_data=nothing)
    errors = About("Errors", "What failed per second, and is tried again.", "cps", 8, no_data=nothing)
    return [
        bars(
            dead,
            PromQl(_rate("kafka_dlq_published_total", "source_topic, error_type"), "{{source_topic}}: {{error_type}}"),
            PromQl(_rate("marketfeed_bad_frames_total", "error_type"), "frames: {{error_type}}"),
        ),
        bars(
            errors,
            PromQl(_rate("kafka_delivery_errors_total", "topic"), "not delivered: {{topic}}"),
            PromQl(_rate("kafka_consumer_errors_total", "topic"), "from the broker: {{topic}}"),
            PromQl(_rate("marketfeed_sink_errors_total", "sink, reason"), "{{sink}}: {{reason}}"),
            PromQl(_rate("marketfeed_analytics_sink_errors_total"), "streaming job's database"),
            PromQl(_rate("vendor_fetch_failure_total", "reason"), "connecting: {{reason}}"),
        ),
        _lines(
            "Queues",
            "Records that ingestors have taken and not delivered, and how often reading paused, a queue being full.",
            "short",
            PromQl('sum by (pod) (marketfeed_publisher_pending{namespace=~"$namespace"})', "{{pod}}"),
            PromQl(_rate("kafka_producer_queue_full_total", "topic"), "pauses per second: {{topic}}"),
        ),
    ]


def _venue() -> list[timeseries.Panel]:
    silence = About(
        "Silence",
        "Time since the last frame of each shard.",
        "s",
        8,
        no_data=_NO_METRICS,
        limits=[(30, AMBER), (120, RED)],
    )
    chosen = '{namespace=~"$namespace", exchange=~"$exchange"}'
    return [
        _lines(
            "Connections",
            "Open connections to the venue, by shard.",
            "short",
            PromQl(f"sum by (exchange, shard) (marketfeed_connected{chosen})", "{{exchange}} {{shard}}"),
        ),
        _lines(
            "Streams",
            "Streams that each shard holds.",
            "short",
            PromQl(f"sum by (exchange, shard) (marketfeed_streams{chosen})", "{{exchange}} {{shard}}"),
        ),
        lines(
            silence,
            PromQl(
                f"time() - max by (exchange, shard) (marketfeed_last_frame_timestamp_seconds{chosen})",
                "{{exchange}} {{shard}}",
            ),
        ),
    ]


def _job() -> list[timeseries.Panel]:
    chosen = '{namespace=~"$namespace"}'
    age = About(
        "Age of the last batch",
        "Time since each query last ended a batch.",
        "s",
        8,
        no_data="no streaming job runs",
        limits=[(60, AMBER), (300, RED)],
    )

    def job(title: str, description: str, unit: str, *queries: Query) -> timeseries.Panel:
        return lines(About(title, description, unit, 8, no_data="no streaming job runs"), *queries)

    def by_query(series: str, legend: str = "{{query}}") -> PromQl:
        return PromQl(f"max by (query) ({series}{chosen})", legend)

    return [
        lines(
            age,
            PromQl(f"time() - max by (query) (marketfeed_analytics_batch_timestamp_seconds{chosen})", "{{query}}"),
        ),
        job(
            "Time of a batch of windows",
            "How long the last batch took.",
            "s",
            by_query("marketfeed_analytics_batch_seconds"),
        ),
        job(
            "Watermark",
            "Age of the watermark: what is older waits for a correction.",
            "s",
            by_query("marketfeed_analytics_watermark_delay_seconds"),
        ),
        job("State, rows", "Rows of state that the job keeps.", "short", by_query("marketfeed_analytics_state_rows")),
        job("State, memory", "Memory of the job's state.", "bytes", by_query("marketfeed_analytics_state_bytes")),
        job(
            "Input",
            "Records that came per second in the last batch.",
            "cps",
            by_query("marketfeed_analytics_input_records_per_second"),
        ),
        job(
            "Windows",
            "Windows written and corrected per second.",
            "cps",
            PromQl(_rate("marketfeed_analytics_windows_written_total", "table"), "{{table}} written"),
            PromQl(_rate("marketfeed_analytics_windows_corrected_total", "table"), "{{table}} corrected"),
        ),
        job(
            "Alerts raised",
            "Alerts per second, by kind.",
            "cps",
            PromQl(_rate("marketfeed_analytics_alerts_total", "kind"), "{{kind}}"),
        ),
        job(
            "Malformed records",
            "Records per second that could not be read; consumers quarantine them.",
            "cps",
            PromQl(_rate("marketfeed_analytics_malformed_records_total", "query"), "{{query}}"),
        ),
    ]


def _processes() -> list[timeseries.Panel | stat.Panel]:
    up = About("Pods that answer", "Pods of feeds that Prometheus reads.", "short", 8, no_data=_NO_METRICS)
    return [
        figures(up, PromQl('sum by (job) (up{namespace=~"$namespace", job=~".*feed.*"})', "{{job}}")),
        figures(
            About("Pods that are ready", "Pods whose /readyz answers 200.", "short", 8, no_data=_NO_METRICS),
            PromQl('sum by (service) (marketfeed_ready{namespace=~"$namespace"})', "{{service}}"),
        ),
        lines(
            About(
                "Memory of its limit",
                "Share of its container's limit that each process uses; at all of it, it is ended.",
                "percentunit",
                8,
                no_data="no container has a limit",
                limits=[(0.8, AMBER), (0.95, RED)],
            ),
            PromQl(
                'max by (pod) (marketfeed_memory_used_bytes{namespace=~"$namespace"} '
                '/ marketfeed_memory_limit_bytes{namespace=~"$namespace"})',
                "{{pod}}",
            ),
        ),
        _lines(
            "Memory",
            "Resident memory of each process.",
            "bytes",
            PromQl('max by (pod) (process_resident_memory_bytes{namespace=~"$namespace"})', "{{pod}}"),
        ),
        _lines(
            "Processors",
            "Processors that each process keeps busy.",
            "none",
            PromQl(_rate("process_cpu_seconds_total", "pod"), "{{pod}}"),
        ),
        figures(
            About(
                "Certificates",
                "Time until the authorities of a certificate file have expired, of the file that is the first.",
                "s",
                8,
                no_data="no certificate is used",
            ),
            PromQl(
                'min(marketfeed_certificate_expiry_timestamp_seconds{namespace=~"$namespace"}) - time()',
                "until the first",
            ),
        ),
    ]
