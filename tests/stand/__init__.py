"""What `make cluster` brings up on a real node: images, charts and the example feed; and what end-to-end tests ask it.

What does not live here: the node itself (node), building images (images), and the scenarios (tests/cluster).
"""

from stand.background import Stand, down, find, up
from stand.cluster import Cluster

__all__ = ["Cluster", "Stand", "down", "find", "up"]
