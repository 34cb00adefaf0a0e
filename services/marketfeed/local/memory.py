"""How much memory is free on this machine, for this process: what the system and its control groups leave."""

from __future__ import annotations

from pathlib import Path

ANALYTICS_BYTES = 2560 * 1024 * 1024  # Spark takes 1.2 GiB of it; broker, database and services take the rest

_GIBIBYTE = 1024 * 1024 * 1024
_UNLIMITED = 1 << 60  # what the older control groups say for none is near 2^63


def too_little(available: int | None) -> str | None:
    """Return why analytics are left out with so many bytes available; None when they need not be.

    Where nobody knows what is available, it is taken to be enough.
    """
    if available is None or available >= ANALYTICS_BYTES:
        return None
    return (
        f"Analytics are left out: a run with them takes {ANALYTICS_BYTES / _GIBIBYTE:.1f} GiB of memory, and "
        f"{max(0, available) / _GIBIBYTE:.1f} GiB are available"
    )


def available_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the least of what the system and each limit above this process leave; None where nothing says so."""
    found = [_system(proc), *_limits(proc, groups)]
    return min((number for number in found if number is not None), default=None)


def _system(proc: Path) -> int | None:
    for line in _lines(proc / "meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def _limits(proc: Path, groups: Path) -> list[int | None]:
    """Return what every limited control group of this process, version 1 or 2, leaves."""
    found = []
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            found += [_left(folder, "memory.max", "memory.current") for folder in _upwards(groups, name)]
        elif "memory" in controllers.split(","):
            base, usage = groups / "memory", "memory.usage_in_bytes"
            found += [_left(folder, "memory.limit_in_bytes", usage) for folder in _upwards(base, name)]
    return found


def _upwards(base: Path, name: str) -> list[Path]:
    """Return the folder of a control group and of all above it."""
    folder = base / name.strip("/")
    return [folder, *(parent for parent in folder.parents if parent == base or base in parent.parents)]


def _left(folder: Path, limit_file: str, usage_file: str) -> int | None:
    """Return what a group's limit leaves, counting what it holds of files that were read once as free."""
    limit, usage = _number(folder / limit_file), _number(folder / usage_file)
    if limit is None or usage is None or limit >= _UNLIMITED:
        return None
    cached = [line.split()[1] for line in _lines(folder / "memory.stat") if line.split()[:1] == ["inactive_file"]]
    return limit - usage + sum(map(int, cached))


def _number(path: Path) -> int | None:
    """Return the number in a file; None for `max` and where there is no such file."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
