"""Engines: what computes logits of a batch of tiles, behind one small seam.

An engine is a callable with a declared geometry, numpy in and out; it knows nothing of images or
files. Torch is imported when the torch engine is made, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.geometry import Geometry
from biounet.model_file import Model

Float32 = npt.NDArray[np.float32]

PRECISIONS = ("fp32", "bf16")


class Engine(Protocol):
    """A local operator: float32 (N, C, *input) -> float32 logits (N, K, *output)."""

    name: str
    precision: str
    geometry: Geometry
    bytes_per_input_pixel: int

    def __call__(self, batch: Float32) -> Float32:
        """Logits of a batch whose spatial size the geometry admits."""


class TorchEngine:
    """A torch module in evaluation mode on a device, fp32 (exact) or bf16."""

    name = "torch"

    def __init__(self, network: Any, *, device: str = "cpu", precision: str = "fp32") -> None:
        import torch

        if precision not in PRECISIONS:
            raise UsageError(f"--precision {precision!r} is not known; choose {' or '.join(PRECISIONS)}")
        self._torch = torch
        self.precision = precision
        self.geometry: Geometry = network.geometry
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        if self.geometry.ndim == 2:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.bytes_per_input_pixel = _activation_bytes(network)

    def __call__(self, batch: Float32) -> Float32:
        torch = self._torch
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        if self.geometry.ndim == 2:
            x = x.contiguous(memory_format=torch.channels_last)
        bf16 = self.precision == "bf16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            logits: Float32 = self.network(x).float().contiguous().cpu().numpy()
        return logits


def torch_network(model: Model, *, factory: Callable[..., Any] | None = None) -> Any:
    """The torch module of a model with its weights, in evaluation mode.

    ``factory(in_channels, classes)`` makes the module of a foreign network, which a model file can
    name but never import. Raises `UsageError` without it, `ModelFileError` when weights do not fit.
    """
    import torch

    from biounet.errors import ModelFileError
    from biounet.networks.build import build

    if model.network.get("name") == "foreign":
        if factory is None:
            raise UsageError(
                f"the model was trained with a network of your own ({model.network.get('factory')}); "
                "pass it again as network=factory, as at training"
            )
        network = factory(len(model.channels), len(model.classes))
    else:
        network = build(model.network)
    try:
        network.load_state_dict({name: torch.tensor(value) for name, value in model.weights.items()})
    except RuntimeError as error:
        raise ModelFileError(f"weights do not fit the network: {str(error).splitlines()[0]}") from error
    return network.eval()


def make_engine(
    model: Model,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    factory: Callable[..., Any] | None = None,
) -> Engine:
    """The engine of this name for a model; "auto" takes the fastest exact one present."""
    if engine not in ("auto", "torch"):
        raise UsageError(f"--engine {engine!r} is not known; choose auto or torch")
    return TorchEngine(torch_network(model, factory=factory), device=pick_device(device), precision=precision)


def pick_device(device: str) -> str:
    """A device that is present: "auto" takes CUDA, then Apple's mps, then the CPU."""
    import torch

    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if present[name])
    kind, _, number = device.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not present.get(kind, False) or (":" in device and number not in map(str, range(count))):
        names = [name for name, here in present.items() if here]
        raise UsageError(f"--device {device!r} is not present; present: {', '.join(names)}")
    return device


def _activation_bytes(network: Any) -> int:
    """Bytes of activations per input pixel at the network's peak, an upper estimate.

    At the top of the decoder a U-Net of width w holds the skip (w), the up-convolved tensor (w),
    their concatenation (2w) and a convolution's output with its workspace (2w), in float32. Other
    networks tell their ``channels_at_peak``.
    """
    width = int(getattr(network, "description", {}).get("width", 64))
    return 4 * int(getattr(network, "channels_at_peak", 6 * width))
