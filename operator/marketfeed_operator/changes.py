"""What a feed's next state would change in the cluster, each change in a class and a sentence, before anything is done.

The operator holds destructive changes back until a person approves them by their hash; `marketfeed plan --against
cluster` prints the same list. What does not live here: which fields of an object are ours to write (diff).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from marketfeed_operator.objects import Key


class ChangeClass(StrEnum):
    """What a change does to what runs, in rising order of what it costs."""

    NONE = "none"
    LIVE = "live"  # taken over by running processes
    SCALE = "scale"  # processes are added or removed, the others go on
    ROLL = "roll"  # processes are replaced one by one
    RESHARD = "reshard"  # streams or keys move to another process or partition
    DESTRUCTIVE = "destructive"  # stored records go, and nothing brings them back


@dataclass(frozen=True, slots=True)
class Difference:
    """One change of one object."""

    key: Key
    change: ChangeClass
    sentence: str
