"""Batch normalisation settled: statistics that belong to the weights they are used with.

Running statistics lag behind the weights, and behind averaged weights all the more, so that scores
of one run jump from checkpoint to checkpoint. Before a network is scored they are therefore
measured anew, over a fixed set of training samples (Izmailov et al. 2018, arXiv 1803.05407, section
3.2; Wu and Johnson 2021, arXiv 2105.07576, "PreciseBN").

While a batch is normalised by its own statistics, which of one tile differ from tile to tile, the weights
learn what never happens in a prediction: an empty tile comes as strong as a full one, and in an almost
empty image faint noise is taken for objects afterwards. So in the last part of a run the statistics are
kept as they are, in training as in prediction, and the weights learn to live with them (FrozenBN, ibid.,
section 3).
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from biounet.samples.sampler import Sampler
from biounet.settings import TrainingSettings

_SAMPLES = 12
_LAYERS = (nn.BatchNorm2d, nn.BatchNorm3d)


def settle_batch_norm(network: nn.Module, sampler: Sampler, *, seed: int, precision: str) -> None:
    """Replace all running means and variances by their average over twelve training samples, in place.

    The samples are those of the first steps for this ``seed``, so that nothing depends on when it is
    done. Everything else stays in evaluation mode; a network without batch normalisation is left alone.
    """
    layers = _layers(network)
    if not layers:
        return
    device = next(network.parameters()).device
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over all that comes
        layer.train()
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for step in range(_SAMPLES):
                image = torch.from_numpy(sampler.sample(seed, step, 0).image[None]).to(device)
                network(image.contiguous(memory_format=torch.channels_last) if image.ndim == 4 else image)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


def steps_with_batch_statistics(steps: int, settings: TrainingSettings) -> int:
    """The first so many steps of a run normalise each batch by its own statistics, the others by those kept."""
    return round(settings.batch_statistics_until * steps)


def keep_batch_norm(network: nn.Module, average: nn.Module, sampler: Sampler, *, seed: int, precision: str) -> None:
    """Settle the statistics of a network and give them to its ``average``, both in place.

    They are measured on a copy of the average with the network's weights: of several processes, each of which does
    this by itself, only the network in training shares its statistics with the others.
    """
    measured = copy.deepcopy(average)
    measured.load_state_dict(network.state_dict())
    settle_batch_norm(measured, sampler, seed=seed, precision=precision)
    for layers in zip(_layers(measured), _layers(network), _layers(average), strict=True):
        for name, value in layers[0].named_buffers():
            for layer in layers[1:]:
                layer.get_buffer(name).copy_(value)


def train_mode(network: nn.Module, *, keeps: bool) -> None:
    """Set a network to training; where it ``keeps`` its statistics, all but batch normalisation."""
    network.train()
    if keeps:
        for layer in _layers(network):
            layer.eval()


def _layers(network: nn.Module) -> list[nn.BatchNorm2d | nn.BatchNorm3d]:
    return [layer for layer in network.modules() if isinstance(layer, _LAYERS)]
