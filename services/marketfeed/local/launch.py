"""Becomes the command it is given, after asking the kernel to kill that command when its parent dies.

Run by its path, `python -I -S launch.py PARENT_PID COMMAND...`, so that it costs some 20 ms and nothing of ours.
The kernel forgets the request when a process changes its user: whoever drops privileges does so before this.
Linux alone has such a request; elsewhere the command simply runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, command: list[str]) -> None:
    """Replace this process by `command`; end instead when the parent `parent` has died meanwhile."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:  # otherwise it died before the request was made, and nobody would ever kill us
        os.execvp(command[0], command)  # noqa: S606 - without a shell is what we want


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
