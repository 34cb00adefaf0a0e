"""What ties a child process to the life of this one, so that it never outlives it, even by kill -9 of this one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Runs as the child's process until the last line replaces it. Its standard input is a pipe whose other end only the
# starting process holds; a watcher, cut loose so that the child never sees it as one of its own, reads from it: a line
# lets the watcher go, the end of the pipe means that the starting process is gone. (PR_SET_PDEATHSIG would do this on
# Linux alone, and there it fires when the *thread* that started the child ends.)
_TIE = """
exec 3<&0 </dev/null
( ( exec >/dev/null 2>&1 4>&-; read -r _ <&3 || kill -s "$0" $$ ) & )
exec 3<&-
exec "$@"
"""

# Standard output becomes descriptor 4, held by the child and all that it starts, but not by the watcher: its other end
# tells when all are gone.
_HOLD = "exec 4>&1 >&2"

RELEASE = b"\n"
"""To be written to the child's standard input once it has ended: its process id may soon be somebody else's."""


def tied(arguments: Iterable[object], *, orphan_signal: str = "KILL", hold_stdout: bool = False) -> Sequence[str]:
    """Return the command that runs a program tied to whoever holds the other end of its standard input, a pipe.

    orphan_signal: what the program gets when that end is closed, as "KILL".
    hold_stdout: let standard output, a pipe too, be open until all of the program's own children are gone; what the
    program writes there goes to standard error.
    """
    script = f"{_HOLD}{_TIE}" if hold_stdout else _TIE
    return ["/bin/sh", "-c", script, orphan_signal, *map(str, arguments)]
