"""From a description (plain JSON values, as in a model file) to a network, by a fixed table.

A new architecture is one file, one line in ``NETWORKS`` and one row in the parametrised tests.
Nothing outside this table is ever imported because a model file asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from biounet.errors import UsageError
from biounet.geometry import Geometry
from biounet.networks.ensemble import Ensemble
from biounet.networks.fcn import FCN
from biounet.networks.patch_cnn import PatchCNN
from biounet.networks.unet import UNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "fcn8s": partial(FCN, stride=8),
    "fcn16s": partial(FCN, stride=16),
    "fcn32s": partial(FCN, stride=32),
    "patch_cnn": PatchCNN,
    "ensemble": lambda members: Ensemble([build(member) for member in members]),
}


class Network(Protocol):
    """What every network here offers besides being a module."""

    geometry: Geometry
    description: dict[str, Any]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes, *out) of a batch (N, in_channels, *size)."""


def build(description: Mapping[str, Any]) -> nn.Module:
    """The network of a description ``{"name": ..., arguments}``; `UsageError` if there is none."""
    arguments = dict(description)
    name = arguments.pop("name", None)
    if name not in NETWORKS:
        raise UsageError(f"network {name!r} is not known; known are {', '.join(NETWORKS)}")
    try:
        return NETWORKS[name](**arguments)
    except UsageError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"network {name!r} does not take these settings: {error}") from error


def parameter_count(module: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in module.parameters())
