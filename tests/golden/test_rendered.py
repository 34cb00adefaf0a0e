"""MarketFeeds that a user could write, and exactly the objects that a cluster gets for them."""

from collections.abc import Callable
from pathlib import Path

import yaml

from feed_files import every_feed, title
from marketfeed_operator.spec import load
from rendered_objects import rendered

HERE = Path(__file__).parent


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice, as everybody reads it, and no anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


@every_feed
def test_a_feeds_objects_are_as_expected(feed: Path, check_golden: Callable[[Path, str], None]) -> None:
    """The objects, in the order of their writing, equal the committed ones to the last character."""
    objects = rendered(load(feed.read_text(), feed.name))
    text = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120, explicit_start=True)
    check_golden(HERE / "rendered" / f"{title(feed)}.yaml", text)
