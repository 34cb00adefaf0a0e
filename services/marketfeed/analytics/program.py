"""The driver's program in a cluster, which spark-submit runs: `marketfeed analytics`, and nothing else."""

from __future__ import annotations

import sys

from marketfeed.cli import main

if __name__ == "__main__":
    sys.argv = ["marketfeed", "analytics", *sys.argv[1:]]
    main()
