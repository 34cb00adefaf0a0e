"""Writes dashboards and alert rules into the operator's chart."""

from __future__ import annotations

from marketfeed_operator.dashboards.catalog import files

if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
