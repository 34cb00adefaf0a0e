"""Stand-ins for what cannot run in a test: nodes, Strimzi's Topic Operator, the Spark operator; and a faulty API.

`Standins(kubeconfig)` runs them in a thread of their own, over the real API server; their controls may be called from
any thread. `python -m standins` runs them for people. Each module's docstring says how far its likeness goes.
"""

from standins.runner import Standins

__all__ = ["Standins"]
