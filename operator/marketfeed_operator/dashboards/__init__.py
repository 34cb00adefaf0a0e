"""Grafana's dashboards and alert rules as code; `python -m marketfeed_operator.dashboards` writes them into the chart.

One module per dashboard, SQL in `sql`, one file per query. What this is built with is no part of the images: nothing
that runs imports this package.
"""
