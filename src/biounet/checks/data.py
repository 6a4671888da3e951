"""What a data folder holds, in numbers and with the reason for each inference, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biounet.checks.finding import Finding, ranked
from biounet.checks.registry import CHECKS
from biounet.checks.survey import Survey, make_survey
from biounet.datasets.dataset import Dataset, refuse
from biounet.datasets.examples import Example
from biounet.datasets.layouts import survey
from biounet.errors import DataError
from biounet.labels.components import components
from biounet.labels.meaning import Meaning


@dataclass(frozen=True, eq=False)
class DataCheck:
    """A data set as found and understood.

    ``examples``: the images that were read and can be used. ``meaning``: None where no annotation could be
    understood. ``objects``: number in each image. ``findings``: what is wrong, the worst first. ``sampled``:
    which images were left out, "" where all were looked at.
    """

    dataset: Dataset
    examples: tuple[Example, ...]
    meaning: Meaning | None
    objects: tuple[int, ...]
    findings: tuple[Finding, ...]
    seen: Survey
    sampled: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every inference in words."""
        sampled = (self.sampled,) if self.sampled else ()
        return (*self.dataset.reasons, *sampled, *self.seen.chosen, *((self.meaning.reason,) if self.meaning else ()))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that have to be mended before a training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def refusal(self) -> DataError | None:
        """The error of one line that tells all errors; None where there is none."""
        if not self.errors:
            return None
        if self.seen.problems and len(self.seen.problems) == len(self.errors):
            return refuse(self.dataset.root, self.seen.problems, len(self.dataset.items) + len(self.dataset.problems))
        if len(self.errors) == 1:
            only = self.errors[0]
            return DataError(f"{self.dataset.root}: {only.file}: {only.evidence}; {only.remedy}")
        told = "; ".join(f"{finding.file}: {finding.evidence}" for finding in self.errors[:8])
        more = f"; and {len(self.errors) - 8} more" if len(self.errors) > 8 else ""
        return DataError(
            f"{self.dataset.root}: {len(self.errors)} errors ({told}{more}); mend them as the findings say"
        )


def check_data(
    path: str | Path | None,
    *,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    task: str | None = None,
    ndim: int | None = None,
    channels: Sequence[int | str] | None = None,
) -> DataCheck:
    """Find, read and understand a data folder as training would, and look for faults (`registry.CHECKS`).

    Of large folders a part is looked at, evenly spread (`DataCheck.sampled`). Raises `DataError` where there is
    no data set to look at: no such folder, nothing to pair, 2D images and volumes together; `UsageError` for
    ``channels`` (names, or positions from 0; None for all) that there are not.
    """
    found = make_survey(survey(path, images=images, masks=masks, ndim=ndim), task=task, channels=channels)
    findings = ranked(finding for check in CHECKS for finding in check(found))
    objects = tuple(_objects(e, found.meaning) for e in found.examples)
    return DataCheck(found.dataset, found.examples, found.meaning, objects, findings, found, found.sampled)


def _objects(example: Example, meaning: Meaning | None) -> int:
    if meaning is not None and meaning.task == "instances" and not meaning.pieces:
        return int(np.count_nonzero(np.unique(example.labels) > 0))
    return int(components(example.labels).max(initial=0))
