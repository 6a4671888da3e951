"""Weight standardisation: kernels held at mean 0 and a learnt norm while training, plain afterwards.

Each output channel's kernel w enters the convolution as gain * (w - mean) / (std * sqrt(fan in)).
It conditions a deep network much as batch normalisation does, but knows nothing of the batch: a
batch of one large tile is as good as any, nothing has to be settled before scoring, and tiles stay
exact. What is left at the end are ordinary weights of the paper's network, so the model file and
every engine know nothing of it.

Source: Qiao et al. 2019, arXiv 1903.10520; the scaling by fan-in and the gain after Brock, De and
Smith 2021, arXiv 2101.08692. Not in the paper.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_TINY = 1e-12  # under the variance, for a kernel of equal values


class _Standardised(nn.Module):
    """The kernel of a convolution from free values: mean 0 per output channel, norm by a gain."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.fan_in = weight[0].numel()
        std = weight.detach().flatten(1).std(dim=1, correction=0)
        self.gain = nn.Parameter(std * self.fan_in**0.5)  # after He initialisation near sqrt(2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        over = tuple(range(1, values.ndim))
        variance, mean = torch.var_mean(values, dim=over, keepdim=True, correction=0)
        gain = self.gain.reshape(-1, *(1,) * len(over))
        return (values - mean) * torch.rsqrt(variance * self.fan_in + _TINY) * gain


def standardise_weights(network: nn.Module) -> None:
    """Standardise, in place, every convolution with a kernel larger than a pixel but the first.

    The first sees the image itself, whose mean grey value a kernel of mean 0 could not see. Kernels
    of mean 0, such as those of a network trained this way before, keep their values.
    """
    layers = [m for m in network.modules() if isinstance(m, _CONVOLUTIONS) and max(m.kernel_size) > 1]
    for layer in layers[1:]:
        parametrize.register_parametrization(layer, "weight", _Standardised(layer.weight))


def plain_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a network by the names it has without standardisation: each kernel by its value."""
    state = network.state_dict()
    for name, layer in network.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            for key in [key for key in state if key.startswith(f"{name}.parametrizations.")]:
                del state[key]
            state[f"{name}.weight"] = layer.weight.detach()
    return state
