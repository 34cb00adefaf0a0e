"""What a feed's status says: conditions, figures and events, judged from what was observed and decided. Pure.

What does not live here: observing, and writing the status (reconcile).
"""

from marketfeed_operator.status.notices import Notice, transitions
from marketfeed_operator.status.whole import figures_due_s, make

__all__ = ["Notice", "figures_due_s", "make", "transitions"]
