"""Dropout that can be drawn sample by sample, so that it does not matter which others a sample is computed with.

Knows nothing of steps and processes: whoever trains gives a seed for each sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`; within `drawn_by_sample` the units of each sample are drawn from a generator of its own."""

    generators: Sequence[torch.Generator] = ()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Each unit of (N, ...) kept with probability 1 - p and divided by it in training; unchanged in evaluation."""
        if not (self.training and self.p and self.generators):
            return super().forward(input)
        kept = torch.empty_like(input)
        for index, generator in enumerate(self.generators):
            kept[index].bernoulli_(1 - self.p, generator=generator)
        return input * kept.div_(1 - self.p)


@contextmanager
def drawn_by_sample(network: nn.Module, seeds: Sequence[int]) -> Iterator[None]:
    """Let every `Dropout` of a network draw for a batch of as many samples as there are seeds.

    The units of a sample follow from its seed, the network and the kind of device, and not from the other samples.
    """
    device = next(network.parameters()).device
    layers = [layer for layer in network.modules() if isinstance(layer, Dropout)]
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    for layer in layers:
        layer.generators = generators
    try:
        yield
    finally:
        for layer in layers:
            layer.generators = ()
