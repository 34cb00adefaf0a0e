"""How the parts of a machine start together."""

from __future__ import annotations

import asyncio

import pytest

from marketfeed.local.machine import _all_or_none


def test_one_failed_start_cancels_the_others() -> None:
    """The first error is raised, and what still waits is cancelled instead of reporting success later."""
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def fails() -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        asyncio.run(_all_or_none(waits(), fails()))
    assert ended == ["cancelled"]
