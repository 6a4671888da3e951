"""The sliding-window network of Ciresan et al. (2012): a classifier of the pixel at a window's centre.

Pairs of an unpadded convolution and a 2x2 max pooling shrink a square window to a few pixels, a fully
connected layer sees them all, a second one gives the classes. Source: "Deep neural networks segment
neuronal membranes in electron microscopy images", NIPS 25, 2843-2851; with a window of 95 this is its
network N4, layer by layer (48 maps; kernels 4, 5, 4, 4; 200 neurons).

The same weights run in two ways. As described, window by window: `sliding_logits`. And densely, all
windows of an image at once: a pooling of stride 2 becomes one of stride 1, and what follows it looks at
every other pixel (dilation 2, then 4, ...), so that each of its outputs sees exactly what it would see in
its own window (Giusti et al. 2013, arXiv 1302.1700, by fragments; in dilated form Yu and Koltun 2016,
arXiv 1511.07122). The outputs are equal up to rounding, the work that windows share is done once.

A module only: knows nothing of files, tiles or settings. Deviations from the paper: ReLU everywhere;
He initialisation; no foveation and no non-uniform sampling of the window.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from biounet.errors import UsageError
from biounet.geometry import AxisGeometry, Geometry
from biounet.networks.dropout import Dropout
from biounet.networks.unet import he_initialise

SMALLEST_WINDOW = 9
_KERNELS = (4, 5)  # one of them leaves an even number of pixels to pool
_LARGEST_END = 6  # pixels a side that the fully connected layer may see
_HIDDEN = 200
_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_MAX_POOL: dict[int, Any] = {2: functional.max_pool2d, 3: functional.max_pool3d}


class PatchCNN(nn.Module):
    """Maps (N, in_channels, *size) to logits (N, classes, *(size - window + 1)), densely.

    ``window``: side of the square that is seen, odd, from 9; 95 is the paper's N4. Larger windows pool
    more often: 33 twice, 65 three times, 95 four times (`window_kernels`). ``width``: maps of each
    convolution. ``dropout`` acts on the 200 neurons before the classes; the paper has none.

    Softmax is not included. Raises `UsageError` for settings that make no network, and for inputs
    smaller than the window.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        width: int = 48,
        window: int = 65,
        ndim: int = 2,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(in_channels, width) < 1 or classes < 2 or not 0 <= dropout < 1 or ndim not in _CONVOLUTION:
            raise UsageError(
                f"in_channels (={in_channels}) and width (={width}) must be at least 1, classes (={classes}) at "
                f"least 2, dropout (={dropout}) from 0 to below 1, and ndim (={ndim}) 2 or 3"
            )
        kernels, end = window_kernels(window)
        half = window // 2
        self.window = window
        self.geometry = Geometry((AxisGeometry((half, half), 1, window, (half, half)),) * ndim)
        self.description: dict[str, Any] = {
            "name": "patch_cnn",
            "in_channels": in_channels,
            "classes": classes,
            "width": width,
            "window": window,
            "ndim": ndim,
            "dropout": dropout,
        }
        inputs = [in_channels, *[width] * (len(kernels) - 1)]
        convolution = _CONVOLUTION[ndim]
        self.convolutions = nn.ModuleList(convolution(n, width, k) for n, k in zip(inputs, kernels, strict=True))
        self.hidden = convolution(width, _HIDDEN, end)  # fully connected: it spans all that is left of a window
        self.dropout = Dropout(dropout)
        self.head = convolution(_HIDDEN, classes, 1)
        he_initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the pixel at the centre of every window of an input (N, in_channels, *size)."""
        if not torch.compiler.is_compiling() and min(x.shape[2:]) < self.window:
            raise UsageError(f"input of size {tuple(x.shape[2:])} is smaller than the window of {self.window}")
        # one window alone needs no dilation: strided pooling is the same, and less work; an exported
        # network is dense at any size
        dense = torch.compiler.is_compiling() or not all(n == self.window for n in x.shape[2:])
        pool = _MAX_POOL[x.ndim - 2]
        dilation = 1
        for layer in self.convolutions:
            x = functional.relu(_convolve(layer, x, dilation))
            x = pool(x, 2, 1, 0, dilation) if dense else pool(x, 2)
            dilation *= 2 if dense else 1
        x = functional.relu(_convolve(self.hidden, x, dilation))
        logits: torch.Tensor = self.head(self.dropout(x))
        return logits


def window_kernels(window: int) -> tuple[tuple[int, ...], int]:
    """Kernels of the convolutions, each followed by a pooling, and the pixels a side that are left.

    Each time 4 or 5, whichever leaves an even number of pixels, until at most 6 are left: 95 gives the
    paper's 4, 5, 4, 4 and 3; 65 gives 4, 4, 5 and 5; 33 gives 4, 4 and 6. Raises `UsageError` for
    windows that are even or below 9.
    """
    if window < SMALLEST_WINDOW or window % 2 == 0:
        raise UsageError(f"network.window (={window}) must be odd, so that it has a centre, and at least 9")
    kernels, size = [], window
    while size > _LARGEST_END:
        kernel = next(k for k in _KERNELS if (size - k + 1) % 2 == 0)
        kernels.append(kernel)
        size = (size - kernel + 1) // 2
    return tuple(kernels), size


@torch.no_grad()
def sliding_logits(network: PatchCNN, image: torch.Tensor, *, batch: int = 256) -> torch.Tensor:
    """As the paper describes it: one window after the other, cut out and classified by itself.

    ``image``: (in_channels, *size), already mirrored by half a window around. Returns (classes, *out)
    as the dense form does, equal up to rounding, at many times the work. ``batch`` windows are
    classified at a time.
    """
    window = network.window
    sizes = [n - window + 1 for n in image.shape[1:]]
    places = itertools.product(*map(range, sizes))
    rows: list[torch.Tensor] = []
    while group := list(itertools.islice(places, batch)):
        rows.append(network(torch.stack([image[(slice(None), *_window(at, window))] for at in group])).flatten(1))
    return torch.cat(rows).T.reshape(-1, *sizes)


def _window(at: Sequence[int], side: int) -> tuple[slice, ...]:
    return tuple(slice(first, first + side) for first in at)


def _convolve(layer: Any, x: torch.Tensor, dilation: int) -> torch.Tensor:
    convolve: Any = {4: functional.conv2d, 5: functional.conv3d}[x.ndim]
    result: torch.Tensor = convolve(x, layer.weight, layer.bias, dilation=dilation)
    return result
