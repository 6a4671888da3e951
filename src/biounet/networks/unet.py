"""The U-Net of Ronneberger, Fischer and Brox (2015), figure 1, in two and three dimensions.

Unpadded 3x3 convolutions with ReLU twice a level, 2x2 max pooling, channels doubled at each level
down, 2x2 up-convolutions that halve them, centre-crop of the skip and concatenation, a 1x1
convolution to the classes. A module only: knows nothing of files, tiles or settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from biounet.errors import UsageError
from biounet.geometry import check_pooling, per_axis, unet_geometry
from biounet.networks.dropout import Dropout

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_UP_CONVOLUTION = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOLING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_DROPOUT_LEVELS = 2  # the two deepest levels of the contracting path


class UNet(nn.Module):
    """U-Net that maps (N, in_channels, *size) to logits (N, classes, *geometry.output_size(size)).

    The defaults are the paper's: 31,030,658 parameters, 572x572 in, 388x388 out. ``width`` is the
    number of channels of the first level, ``depth`` the number of poolings, ``pooling`` the factor
    per level and axis (default 2 everywhere; 1 leaves an axis alone, for thick slices).
    ``batch_norm`` (not in the paper) puts batch normalisation between convolution and ReLU; in
    evaluation mode it keeps tiles exact. ``dropout`` acts on the two deepest levels of the
    contracting path ("drop-out layers at the end of the contracting path").

    ``stem`` (not in the paper; 1 leaves it out) is for objects larger than the network's reach: that many
    pixels a side are taken together by a first convolution of this size and stride, and the head is
    an up-convolution that parts them again. Margin, period and reach grow by the factor, the work
    shrinks by its square, and the output still has a value for every pixel.

    Softmax is not included: losses and engines take logits. Raises `UsageError` for settings that
    make no network and for input sizes that do not divide evenly at every level.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        width: int = 64,
        depth: int = 4,
        ndim: int = 2,
        *,
        pooling: Sequence[Sequence[int]] | None = None,
        batch_norm: bool = False,
        dropout: float = 0.5,
        stem: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        if min(in_channels, width) < 1 or classes < 2 or not 0 <= dropout < 1:
            raise UsageError(
                f"in_channels (={in_channels}) and width (={width}) must be at least 1, "
                f"classes (={classes}) at least 2, and dropout (={dropout}) from 0 to below 1"
            )
        factors = check_pooling(depth, ndim, pooling)
        blocks = per_axis(stem, ndim, "stem")
        self.geometry = unet_geometry(depth, ndim, pooling=factors, stem=blocks)
        self.description: dict[str, Any] = {
            "name": "unet",
            "in_channels": in_channels,
            "classes": classes,
            "width": width,
            "depth": depth,
            "ndim": ndim,
            "pooling": [list(level) for level in factors],
            "batch_norm": batch_norm,
            "dropout": dropout,
            "stem": list(blocks),
        }
        channels = [width * 2**level for level in range(depth + 1)]
        has_stem = max(blocks) > 1
        inputs = [width if has_stem else in_channels, *channels[:-1]]
        self.stem = _stem(ndim, in_channels, width, blocks) if has_stem else nn.Identity()
        self.encoder = nn.ModuleList(
            _double_convolution(ndim, a, b, batch_norm) for a, b in zip(inputs, channels, strict=True)
        )
        self.pool = nn.ModuleList(_POOLING[ndim](level, level) for level in factors)
        self.up = nn.ModuleList(_up_convolution(ndim, n, level) for n, level in zip(channels, factors, strict=False))
        self.decoder = nn.ModuleList(_double_convolution(ndim, 2 * n, n, batch_norm) for n in channels[:-1])
        self.head = _blocks_apart(ndim, width, classes, blocks) if has_stem else _CONVOLUTION[ndim](width, classes, 1)
        self.dropout = Dropout(dropout)
        self._crops = [_skip_crop(factors[level:], ndim) for level in range(depth)]
        he_initialise(self)
        if has_stem:
            _alike_within_blocks(self.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, float, of an input (N, in_channels, *size); size must be admissible."""
        if not torch.compiler.is_compiling() and not self.geometry.is_admissible(x.shape[2:]):
            raise UsageError(
                f"input of size {tuple(x.shape[2:])} does not divide evenly at every level; "
                f"the next admissible size is {tuple(map(_next_size, self.geometry.axes, x.shape[2:]))}"
            )
        depth = len(self.pool)
        skips = []
        x = self.stem(x)
        for level, block in enumerate(self.encoder):
            x = block(x)
            if level > depth - _DROPOUT_LEVELS:
                x = self.dropout(x)
            if level < depth:
                skips.append(x)
                x = self.pool[level](x)
        for level in reversed(range(depth)):
            skip = skips[level][self._crops[level]]
            x = self.decoder[level](torch.cat([self.up[level](x), skip], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def he_initialise(module: nn.Module) -> None:
    """He initialisation in place: normal, std sqrt(2/N), N the incoming connections of a neuron.

    Biases are zero. An up-convolution whose stride is its kernel gives each output pixel one
    incoming connection per input channel, so there N is the number of input channels.
    Draws from torch's global generator. Source: the paper, section 3, after He et al. 2015.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            taps = 1 if layer.transposed else layer.weight[0, 0].numel()
            nn.init.normal_(layer.weight, 0.0, (2.0 / (layer.in_channels * taps)) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _double_convolution(ndim: int, in_channels: int, out_channels: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(_CONVOLUTION[ndim](channels, out_channels, 3, bias=not batch_norm))
        if batch_norm:
            layers.append(_BATCH_NORM[ndim](out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _up_convolution(ndim: int, out_channels: int, factor: Sequence[int]) -> nn.Module:
    kernel: Any = tuple(factor)  # torch's stubs know tuples of one fixed length only
    return _UP_CONVOLUTION[ndim](2 * out_channels, out_channels, kernel, kernel)


def _stem(ndim: int, in_channels: int, out_channels: int, blocks: Sequence[int]) -> nn.Module:
    kernel: Any = tuple(blocks)
    return _CONVOLUTION[ndim](in_channels, out_channels, kernel, kernel)


def _blocks_apart(ndim: int, in_channels: int, classes: int, blocks: Sequence[int]) -> nn.Module:
    kernel: Any = tuple(blocks)
    return _UP_CONVOLUTION[ndim](in_channels, classes, kernel, kernel)


@torch.no_grad()
def _alike_within_blocks(head: nn.Module) -> None:
    """All pixels of a block begin with the same weights, so that no pattern of blocks shows at first."""
    weight = head.weight
    assert isinstance(weight, torch.Tensor)
    first = weight[(slice(None), slice(None), *(slice(0, 1),) * (weight.ndim - 2))]
    weight.copy_(first.expand_as(weight))


def _skip_crop(factors: Sequence[Sequence[int]], ndim: int) -> tuple[slice, ...]:
    """What is kept of a skip: all but what the levels below it lose, half on each side."""
    lost = unet_geometry(len(factors) - 1, ndim, pooling=factors[1:]).margin
    crops = [factor * before for factor, (before, _) in zip(factors[0], lost, strict=True)]
    return (slice(None), slice(None), *(slice(crop, -crop) for crop in crops))


def _next_size(axis: Any, size: int) -> int:
    return int(axis.admissible(size))
