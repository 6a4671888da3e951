"""How much memory a process may take at most: of the machine, or of the container or the job that it runs in.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, and cgroup-v1/memory.html there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath


def allowed_memory(root: Path = Path("/")) -> int:
    """The least in bytes of the machine's memory and the limits of control groups; 0 where the system does not say.

    ``root``: where ``proc`` and ``sys`` are mounted.
    """
    return min((limit for limit in (_physical(), *_of_groups(root)) if limit > 0), default=0)


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _of_groups(root: Path) -> Iterator[int]:
    """Limits of this process' groups, of version 1 and 2, and of all groups that these lie in.

    In a container the path of a group may be one of the host; that of the container is then what is mounted.
    """
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
        for _, controllers, place in (line.split(":", 2) for line in lines if line.count(":") > 1):
            if controllers and "memory" not in controllers.split(","):
                continue
            mounted = root / "sys/fs/cgroup" / ("memory" if controllers else "")
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            inner = PurePosixPath(place.lstrip("/"))
            for group in (inner, *inner.parents):
                with suppress(OSError, ValueError):  # "max" is no limit
                    yield int((mounted / group / name).read_text(encoding="ascii"))
