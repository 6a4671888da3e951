"""Batch normalisation settled: statistics that belong to the weights they are used with.

Running statistics lag behind the weights, and behind averaged weights all the more, so that scores
of one run jump from checkpoint to checkpoint. Before a network is scored they are therefore
measured anew, over a fixed set of training samples (Izmailov et al. 2018, arXiv 1803.05407, section
3.2; Wu and Johnson 2021, arXiv 2105.07576, "PreciseBN").
"""

from __future__ import annotations

import torch
from torch import nn

from biounet.samples.sampler import Sampler

_SAMPLES = 12
_LAYERS = (nn.BatchNorm2d, nn.BatchNorm3d)


def settle_batch_norm(network: nn.Module, sampler: Sampler, *, seed: int, precision: str) -> None:
    """Replace all running means and variances by their average over twelve training samples, in place.

    The samples are those of the first steps for this ``seed``, so that nothing depends on when it is
    done. Everything else stays in evaluation mode; a network without batch normalisation is left alone.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _LAYERS)]
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
