"""How counts of services that come and go are added up."""

from __future__ import annotations

from marketfeed.local.observe import Count


def test_a_count_goes_on_after_a_restart() -> None:
    """A process that starts again at 0 adds to what the one before it counted; the rate of that moment is not known."""
    rows = Count()
    assert rows.take(10.0, 100) == (100, None)
    assert rows.take(12.0, 150) == (150, 25)
    assert rows.take(13.0, 30) == (180, None)
    assert rows.take(14.0, 40) == (190, 10)


def test_a_silent_service_keeps_its_count() -> None:
    """While nothing answers the last total stands, without a rate; before the first answer nothing is known."""
    rows = Count()
    assert rows.take(1.0, None) == (None, None)
    rows.take(2.0, 7)
    assert rows.take(3.0, None) == (7, None)
