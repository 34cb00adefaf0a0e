"""The streaming job: Spark reads the topics, groups records by window, keeps metrics, flags and alerts in a database.

`records` parses (the seam of encodings); one file per analytic: `trade_metrics`, `spread_metrics`, each a function from
DataFrame to DataFrame; `store` writes windows and compares them with the ledger; `service` is the process.
"""
