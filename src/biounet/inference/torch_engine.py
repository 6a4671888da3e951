"""PyTorch as an engine: the reference on a CPU, and the one for GPUs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import ModelFileError, UsageError
from biounet.geometry import Geometry
from biounet.inference.cost import Cost, cost_of
from biounet.model_file import Model

Float32 = npt.NDArray[np.float32]


class TorchEngine:
    """A torch module in evaluation mode on a device: fp32 (exact; TF32 is off) or bf16 by autocast.

    2D batches go through channels-last, which is faster on CPUs and on GPUs with tensor cores. ``threads``: of the
    whole process from now on, 0 leaves them as they are.
    """

    name = "torch"

    def __init__(self, network: Any, *, device: str = "cpu", precision: str = "fp32", threads: int = 0) -> None:
        import torch

        if precision not in ("fp32", "bf16"):
            raise UsageError(f"--precision {precision!r} is not known to the torch engine; choose fp32 or bf16")
        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self.precision = precision
        self.geometry: Geometry = network.geometry
        self.cost: Cost = cost_of(getattr(network, "description", {}), self.name, precision)
        self.device = torch.device(device)
        self.batches = self.device.type != "cpu"  # on CPUs they gain nothing, and round differently
        self.network = network.to(self.device).eval()
        if self.geometry.ndim == 2:
            self.network = self.network.to(memory_format=torch.channels_last)

    def __call__(self, batch: Float32) -> Float32:
        torch = self._torch
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        if self.geometry.ndim == 2:
            x = x.contiguous(memory_format=torch.channels_last)
        bf16 = self.precision == "bf16"
        with torch.inference_mode(), self._exact(), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            logits: Float32 = self.network(x).float().contiguous().cpu().numpy()
        return logits

    def _exact(self) -> Any:
        """On CUDA: convolutions in true fp32, which cuDNN would else round to TF32."""
        if self.device.type != "cuda":
            return nullcontext()
        return self._torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False)


def torch_network(model: Model, *, factory: Callable[..., Any] | None = None) -> Any:
    """The torch module of a model with its weights, in evaluation mode.

    ``factory(in_channels, classes)`` makes the module of a foreign network, which a model file can
    name but never import. Raises `UsageError` without it, `ModelFileError` when weights do not fit.
    """
    import torch

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
