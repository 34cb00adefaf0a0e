"""Quantities: the text that the API server stores."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed_operator.render.quantities import canonical, canonical_resources

_SIZES = {
    **dict(
        zip(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), (Fraction(1000) ** n for n in range(-3, 7)), strict=True)
    ),
    **{f"{letter}i": Fraction(1024) ** n for n, letter in enumerate("KMGTPE", 1)},
}


def size(text: str) -> Fraction:
    """Return what a quantity's text means."""
    number = text.rstrip("numkKMGTPEi")
    return Fraction(number) * _SIZES[text.removeprefix(number)]


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        (0.5, "500m"),
        (2, "2"),
        ("100m", "100m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1000Ki", "1000Ki"),
        ("1000k", "1M"),
        ("0", "0"),
        ("0.0", "0"),
        ("0Mi", "0"),
        ("2.50", "2500m"),
        ("1.500", "1.500"),
        ("100", "100"),
        ("5000", "5k"),
        ("0.1n", "1m"),
        ("1500u", "2m"),
        ("0.00150", "2m"),
    ],
)
def test_a_quantity_is_written_as_the_api_server_stores_it(written: Any, stored: str) -> None:
    """Whole numbers with the largest suffix that holds them."""
    assert canonical(written) == stored


@pytest.mark.parametrize("written", ["", "much", "1 Gi", "Mi", ".", "1e3", "-1", True, None, ["1"], "9" * 31])
def test_what_is_no_plain_quantity_is_left_to_the_api_server(written: Any) -> None:
    """Nothing is guessed, and nothing fails."""
    assert canonical(written) == written


@given(st.decimals(0, 10**6, places=6), st.sampled_from(sorted(_SIZES)))
def test_the_canonical_text_means_the_same_and_is_its_own(number: Any, suffix: str) -> None:
    """No precision is lost above a thousandth, and a second pass changes nothing."""
    written = f"{number:f}{suffix}"
    stored = canonical(written)
    assert canonical(stored) == stored
    thousandth = Fraction(1, 1000)
    largest = size(written) > 2**63 - 1
    assert largest or 0 <= size(stored) - size(written) < thousandth


def test_resources_keep_what_is_no_amount() -> None:
    """Claims, and resources that are none, are passed on as they are."""
    written = {"requests": {"cpu": "1000m"}, "limits": "much", "claims": [{"name": "gpu"}]}
    assert canonical_resources(written) == {"requests": {"cpu": "1"}, "limits": "much", "claims": [{"name": "gpu"}]}
    assert canonical_resources("none") == "none"
