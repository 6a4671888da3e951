"""One fault of a data set: what, how bad, where, by which numbers, why it matters, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "hint"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "hint")


@dataclass(frozen=True)
class Spot:
    """Where to look: an image by its name, and the part of it (slices of its spatial axes), None for all."""

    name: str
    box: tuple[slice, ...] | None = None


@dataclass(frozen=True)
class Finding:
    """One fault.

    ``kind``: a stable word, one for each check. ``file``: which file or folder. ``evidence``: the numbers in
    words. ``why``: what it does to a training. ``remedy``: a command or an edit. ``weight``: how bad among
    findings of one kind, larger is worse. ``spots``: what to show of it.
    """

    kind: str
    severity: Severity
    file: str
    evidence: str
    why: str
    remedy: str
    weight: float = 0.0
    spots: tuple[Spot, ...] = ()

    def to_dict(self) -> dict[str, str]:
        """What the command line writes as JSON."""
        return {key: getattr(self, key) for key in ("kind", "severity", "file", "evidence", "why", "remedy")}


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then hints; within them kinds as they came, the worst of each kind first."""
    listed = list(findings)
    kinds = list(dict.fromkeys(finding.kind for finding in listed))
    return tuple(sorted(listed, key=lambda f: (SEVERITIES.index(f.severity), kinds.index(f.kind), -f.weight, f.file)))
