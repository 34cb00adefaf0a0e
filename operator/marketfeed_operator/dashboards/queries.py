"""What panels and rules ask: SQL from the files of `sql`, PromQL from where it stands, as the builder takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grafana_foundation_sdk.builders import prometheus as prometheus_builder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef

FOLDER = Path(__file__).parent / "sql"
"""Where SQL is: dashboard/query.sql."""

POSTGRESQL = DataSourceRef(type_val="grafana-postgresql-datasource", uid="timescaledb")
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")


def sql_text(name: str) -> str:
    """Return the SQL of `dashboard/query`."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class SqlTarget(Dataquery):
    """A query as the PostgreSQL data source stores it: the builder's package has no type of its own for it."""

    ref_id: str
    text: str
    format: str
    datasource: DataSourceRef = POSTGRESQL

    def to_json(self) -> dict[str, object]:
        """Return the target of a panel."""
        return {
            "refId": self.ref_id,
            "datasource": self.datasource,
            "editorMode": "code",
            "format": self.format,
            "rawQuery": True,
            "rawSql": self.text,
        }


@dataclass(frozen=True)
class Sql(Builder[Dataquery]):
    """SQL by its file's name, `dashboard/query`; series have columns time, metric and values, tables any."""

    name: str
    format: Literal["time_series", "table"] = "time_series"
    ref_id: str = "A"

    def build(self) -> Dataquery:
        """Return the target."""
        return SqlTarget(self.ref_id, sql_text(self.name), self.format)


@dataclass(frozen=True)
class PromQl(Builder[Dataquery]):
    """PromQL, and how each of its series is called."""

    expr: str
    legend: str = "__auto"
    ref_id: str = "A"

    def build(self) -> Dataquery:
        """Return the target."""
        query = prometheus_builder.Dataquery().expr(self.expr).legend_format(self.legend).range()
        return query.ref_id(self.ref_id).datasource(PROMETHEUS).build()


Query = Sql | PromQl
