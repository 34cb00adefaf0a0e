"""Every statement that marketfeed sends to a database, in .sql files; `read` fetches one.

`migrations/` holds the numbered steps of the schema, run by `marketfeed.migrate`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def read(name: str) -> str:
    """Return the text of one file below this package, as `insert_trades.sql`."""
    return resources.files(__name__).joinpath(name).read_text("utf-8")
