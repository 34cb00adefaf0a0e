"""Container images, built on this machine by docker or buildah and kept as archives: ours, and real servers for tests.

`provide(name)` returns one, built where it is not in the cache. What does not live here: nodes that run them.
"""

from __future__ import annotations

from images.catalog import NAMES
from images.store import Image, provide

__all__ = ["NAMES", "Image", "provide"]
