"""Several networks as one: the average of their probabilities.

Averaging the outputs of networks trained alike cancels a part of the errors that each makes by chance
(Ciresan et al. 2012, section 3, "averaging the outputs of several networks"). The average is given as its
logarithm, so that an ensemble has logits like any other network, whose softmax is the average itself; tiles,
engines and exports need to know nothing of it.

A module only: knows nothing of files, tiles or settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from biounet.errors import UsageError
from biounet.geometry import Geometry, common_geometry

_LEAST = 1e-30  # a probability whose logarithm is still a number, in every engine


class Ensemble(nn.Module):
    """Maps (N, in_channels, *size) to the logarithm of the members' mean probabilities, (N, classes, *out).

    ``members``: networks with a ``geometry`` and a ``description``, of the same channels and classes. Their
    geometries may differ: each member then sees the middle of the input as far as it needs, so that all speak
    of the same pixels. Members count alike.

    Raises `UsageError` where they do not fit each other.
    """

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__()
        if not members:
            raise UsageError("an ensemble of no networks: give at least one")
        for key in ("in_channels", "classes", "ndim"):
            values = [member.description.get(key, 2) for member in members]
            if len(set(values)) > 1:
                raise UsageError(f"members of an ensemble differ in {key}: {values}; they must be of one kind")
        self.geometry = common_geometry([member.geometry for member in members])
        self.description: dict[str, Any] = {
            "name": "ensemble",
            "members": [member.description for member in members],
        }
        self.members = nn.ModuleList(members)
        self._parts = [_part(self.geometry, member.geometry) for member in members]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logarithms of mean probabilities of a batch (N, in_channels, *size)."""
        found = [torch.softmax(m(x[part]), dim=1) for m, part in zip(self.members, self._parts, strict=True)]
        total = found[0]
        for one in found[1:]:
            total = total + one
        return torch.log(torch.clamp(total / len(found), min=_LEAST))


def _part(whole: Geometry, member: Geometry) -> tuple[Any, ...]:
    """What a member is given of a batch: all but what the common margin has more than its own."""
    pairs = zip(whole.margin, member.margin, strict=True)
    cuts = [(common[0] - own[0], common[1] - own[1]) for common, own in pairs]
    return (..., *(slice(before, -after if after else None) for before, after in cuts))
