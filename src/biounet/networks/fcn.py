"""The fully convolutional network of Long, Shelhamer and Darrell (2015, doi 10.1109/CVPR.2015.7298965).

A classifier of five poolings whose dense layers are read as convolutions, so that it gives class scores
for every 32nd pixel of an image of any size. Scores, not features, are brought to full resolution: by
transposed convolutions that start as bilinear interpolation and are learnt, in one step (FCN-32s) or
after adding the scores of the fourth pooling (FCN-16s) and of the third (FCN-8s). Upsampled tensors have
as many channels as there are classes. Two dimensions only.

Deviations from the paper: the trunk is not VGG-16 with weights from ImageNet but one of the same kind
that a CPU can train from scratch (``width`` channels, two convolutions a stage, 3x3 for the first dense
layer, 16 * width neurons); nothing is padded and only what interpolation between two scores can know is
kept, so that tiles are exact (the paper pads by 100 and crops); skip scores start at zero, as there, but
all is trained at once; all transposed convolutions are learnt, there the last one is fixed.

A module only: knows nothing of files, tiles or settings.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

from biounet.errors import UsageError
from biounet.geometry import AxisGeometry, Geometry
from biounet.networks.dropout import Dropout
from biounet.networks.unet import he_initialise

STAGES = 5
_CONVOLUTIONS = 2  # a stage, unpadded 3x3
_DENSE_KERNEL = 3  # of the first dense layer, in pixels of the last pooling
_STRIDES = {32: (), 16: (16,), 8: (16, 8)}  # strides at which scores are added, deepest first


class Classifier(nn.Module):
    """The network before it became convolutional: one window in, (N, classes) out.

    ``window``: the side of the only size that it takes. Everything else as in `FCN`, whose weights fit
    (`FCN.take`).
    """

    def __init__(self, in_channels: int = 1, classes: int = 2, width: int = 64, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.window = 2**STAGES * _DENSE_KERNEL + 2 * loss_before(STAGES)
        self.trunk = _trunk(in_channels, width, batch_norm)
        hidden = 16 * width
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(8 * width * _DENSE_KERNEL**2, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of windows (N, in_channels, window, window)."""
        for stage in self.trunk:
            x = stage(x)
        scores: torch.Tensor = self.dense(x)
        return scores


class FCN(nn.Module):
    """Maps (N, in_channels, *size) to logits (N, classes, *geometry.output_size(size)).

    ``stride``: 32, 16 or 8, that of the shallowest scores. ``width``: channels of the first stage; 1,
    2, 4, 8 and 8 times as many in the stages, 16 times in the dense layers. ``batch_norm`` (not in the
    paper) as in `UNet`. ``dropout`` acts after both dense layers, as in the paper.

    Softmax is not included. Raises `UsageError` for settings that make no network and for input sizes
    that do not divide evenly at every stage.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        width: int = 64,
        ndim: int = 2,
        *,
        stride: int = 8,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if min(in_channels, width) < 1 or classes < 2 or not 0 <= dropout < 1 or stride not in _STRIDES:
            raise UsageError(
                f"in_channels (={in_channels}) and width (={width}) must be at least 1, classes (={classes}) at "
                f"least 2, dropout (={dropout}) from 0 to below 1, and stride (={stride}) 32, 16 or 8"
            )
        if ndim != 2:
            raise UsageError(f"a fully convolutional network has 2 axes, the images have {ndim}; take --network unet")
        self.geometry = fcn_geometry(stride)
        self.description: dict[str, Any] = {
            "name": f"fcn{stride}s",
            "in_channels": in_channels,
            "classes": classes,
            "width": width,
            "ndim": ndim,
            "batch_norm": batch_norm,
            "dropout": dropout,
        }
        hidden = 16 * width
        self.trunk = _trunk(in_channels, width, batch_norm)
        self.dense = nn.Sequential(
            nn.Conv2d(8 * width, hidden, _DENSE_KERNEL), nn.ReLU(), Dropout(dropout),
            nn.Conv2d(hidden, hidden, 1), nn.ReLU(), Dropout(dropout),
        )  # fmt: skip
        self.score = nn.Conv2d(hidden, classes, 1)
        at = {16: 8 * width, 8: 4 * width}  # channels of the fourth and third pooling
        self.skips = nn.ModuleList(nn.Conv2d(at[s], classes, 1) for s in _STRIDES[stride])
        self.up = nn.ModuleList(_upsampling(classes, 2) for _ in self.skips)
        self.head = _upsampling(classes, stride)
        he_initialise(self)
        for layer in (*self.up, self.head):
            bilinear_initialise(layer)
        for layer in self.skips:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, float, of an input (N, in_channels, *size); size must be admissible."""
        if not torch.compiler.is_compiling() and not self.geometry.is_admissible(x.shape[2:]):
            axis = self.geometry.axes[0]
            raise UsageError(
                f"input of size {tuple(x.shape[2:])} does not divide evenly at every stage; the next admissible "
                f"size is {tuple(axis.admissible(n) for n in x.shape[2:])}"
            )
        stages = []
        for stage in self.trunk:
            x = stage(x)
            stages.append(x)
        scores: torch.Tensor = self.score(self.dense(x))
        for number, (up, skip) in enumerate(zip(self.up, self.skips, strict=True)):
            scores = up(scores)
            depth = STAGES - 1 - number
            scores = scores + skip(_cropped(stages[depth - 1], _crop(depth), scores.shape[2:]))
        logits: torch.Tensor = self.head(scores)
        return logits

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """The classifier's scores (N, classes, ...) at every 32nd pixel, before any upsampling."""
        for stage in self.trunk:
            x = stage(x)
        scores: torch.Tensor = self.score(self.dense(x))
        return scores

    def take(self, classifier: Classifier) -> None:
        """Take the weights of a classifier, its dense layers read as convolutions; in place."""
        self.trunk.load_state_dict(classifier.trunk.state_dict())
        convolutions = [*(layer for layer in self.dense if isinstance(layer, nn.Conv2d)), self.score]
        linear = [layer for layer in classifier.dense if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for convolution, dense in zip(convolutions, linear, strict=True):
                convolution.weight.copy_(dense.weight.reshape(convolution.weight.shape))
                convolution.bias.copy_(dense.bias)  # type: ignore[union-attr]


def fcn_geometry(stride: int) -> Geometry:
    """Sizes and reach of an FCN whose shallowest scores have this stride, alike on both axes.

    With n scores on an axis, the input has 32 n + 2 * 94 pixels. A transposed convolution of factor f
    gives, of m scores, the (m - 1) f pixels between the first and the last, so that each step of factor
    f loses f / 2 of its own pixels a side. Margins: 110 (FCN-32s), 118 (16s), 122 (8s); period 32.
    """
    lost = loss_before(STAGES) + 2**STAGES * (_DENSE_KERNEL // 2)
    margin, finer = lost, 32
    for factor in _factors(stride):
        finer //= factor
        margin += finer * factor // 2
    period = 2**STAGES
    first, last = zip(*(_span(x, stride) for x in range(period)), strict=True)
    before = max(x + margin - low for x, low in enumerate(first))
    after = max(high - x - margin for x, high in enumerate(last))
    return Geometry((AxisGeometry((margin, margin), period, 2 * period + 2 * lost, (before, after)),) * 2)


def loss_before(stages: int) -> int:
    """Pixels of the input that the convolutions of the first stages lose, a side."""
    return sum(_CONVOLUTIONS * 2**stage for stage in range(stages))


def bilinear_initialise(layer: nn.Module) -> None:
    """A transposed convolution made exact bilinear interpolation of each channel by itself, in place.

    Its kernel is twice its stride, an even number. Pixels lie as in `torch.nn.functional.interpolate`
    with ``align_corners=False``: the pixel of a score covers a square of pixels of the result.
    """
    assert isinstance(layer, nn.ConvTranspose2d)
    factor, size = layer.stride[0], layer.kernel_size[0]
    places = torch.arange(size, dtype=layer.weight.dtype)
    line = 1 - (places - (size - 1) / 2).abs() / factor
    with torch.no_grad():
        layer.weight.zero_()
        for channel in range(layer.in_channels):
            layer.weight[channel, channel] = line[:, None] * line
        if layer.bias is not None:
            layer.bias.zero_()


def _upsampling(classes: int, factor: int) -> nn.ConvTranspose2d:
    """(n - 1) * factor pixels of n: those between two scores, each of which depends on just these two."""
    return nn.ConvTranspose2d(classes, classes, 2 * factor, factor, padding=factor)


def _trunk(in_channels: int, width: int, batch_norm: bool) -> nn.ModuleList:
    channels = [in_channels, *(width * 2 ** min(stage, 3) for stage in range(STAGES))]
    return nn.ModuleList(_stage(a, b, batch_norm) for a, b in itertools.pairwise(channels))


def _stage(in_channels: int, out_channels: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, *[out_channels] * (_CONVOLUTIONS - 1)):
        layers.append(nn.Conv2d(channels, out_channels, 3, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def _factors(stride: int) -> tuple[int, ...]:
    """By how much each transposed convolution enlarges, deepest first."""
    return (*(2 for _ in _STRIDES[stride]), stride)


def _crop(depth: int) -> int:
    """First pixel of the pooling after stage ``depth`` that lies under the scores brought to its size."""
    crop = _DENSE_KERNEL // 2  # at the size of the last pooling
    for _ in range(STAGES - depth):
        crop = 2 * crop + 1 + _CONVOLUTIONS
    return crop


def _cropped(x: torch.Tensor, first: int, size: torch.Size) -> torch.Tensor:
    return x[:, :, first : first + size[0], first : first + size[1]]


def _span(position: int, stride: int) -> tuple[int, int]:
    """First and last input pixel on which the output pixel at ``position`` depends, on one axis."""
    spans = [_between(position, position, stride)]  # of the scores at the end, then of deeper ones
    added = list(_STRIDES[stride])
    low, high = [], []
    while added:
        depth = added.pop().bit_length() - 1
        first, last = spans[-1]
        a, b = _seen(first + _crop(depth), last + _crop(depth), depth)
        low.append(a)
        high.append(b)
        spans.append(_between(first, last, 2))
    first, last = spans[-1]
    a, b = _seen(first, last + _DENSE_KERNEL - 1, STAGES)
    return min(a, *low) if low else a, max(b, *high) if high else b


def _between(first: int, last: int, factor: int) -> tuple[int, int]:
    """The scores on which pixels first..last of a transposed convolution depend."""
    return first // factor, last // factor + 1


def _seen(first: int, last: int, stages: int) -> tuple[int, int]:
    """The input pixels on which pixels first..last after so many stages depend."""
    for _ in range(stages):
        first, last = 2 * first, 2 * last + 1 + 2 * _CONVOLUTIONS
    return first, last
