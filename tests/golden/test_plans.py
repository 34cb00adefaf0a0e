"""MarketFeeds that a user could write, and exactly what is planned for them.

`pytest tests/golden --update-golden` writes the expected files anew; the difference is for the reviewer to judge.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from feed_files import every_feed, title
from marketfeed_operator.describe import as_json, describe
from marketfeed_operator.plan import Plan, plan
from marketfeed_operator.spec import load

HERE = Path(__file__).parent


@every_feed
@pytest.mark.parametrize(("show", "suffix"), [(describe, "txt"), (as_json, "json")], ids=["text", "json"])
def test_a_feeds_plan_is_as_expected(
    feed: Path, show: Callable[[Plan], str], suffix: str, check_golden: Callable[[Path, str], None]
) -> None:
    """The plan that is shown equals the committed one, to the last character."""
    shown = show(plan(load(feed.read_text(), feed.name)))
    check_golden(HERE / "plans" / f"{title(feed)}.{suffix}", shown)
