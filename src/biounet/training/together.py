"""Several processes that train one network: each takes its part of every batch, and all hold the same weights.

What the loop needs of them, and no more. Alone, everything is the value that a process has itself. Processes are
started by ``biounet train --processes`` (see `processes`) or by ``accelerate launch``, on one machine or several;
how they reach each other is the business of accelerate and torch.distributed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import nn

from biounet.errors import BiounetError, UsageError
from biounet.inference.torch_engine import pick_device
from biounet.words import counted

T = TypeVar("T")
_PATIENCE = timedelta(days=1)  # for a process that validates or writes while the others wait
_RANK, _SIZE, _LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"  # set by every launcher of torch


class Together:
    """A process that trains alone, and what all have in common. Process 0 validates, writes and speaks."""

    rank = 0
    size = 1

    def part(self, batch: int) -> tuple[int, int]:
        """The samples of a global batch that this process takes: the first, and how many."""
        count = batch // self.size
        return self.rank * count, count

    def forward(self, network: nn.Module) -> nn.Module:
        """The network to be called in a step: going backward leaves each gradient averaged over all processes."""
        return network

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        return values

    def any(self, asked: bool) -> bool:
        """Whether one of them says so."""
        return asked

    def of_first(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in process 0, where alone it is called; its `BiounetError` is raised in all."""
        return make()


ALONE = Together()


class _Accelerated(Together):
    """One of several processes, by accelerate."""

    def __init__(self, device: str) -> None:
        import accelerate.utils as utils
        from accelerate import Accelerator

        try:
            self._accelerator = Accelerator(
                cpu=device == "cpu",
                mixed_precision="no",  # what is computed in bf16 is decided by the loop, alike for one and for many
                kwargs_handlers=[utils.InitProcessGroupKwargs(timeout=_PATIENCE)],
            )
        except (RuntimeError, ValueError) as error:
            raise BiounetError(f"the processes of this training do not find each other: {_line(error)}") from error
        self._broadcast = utils.broadcast_object_list
        self.rank, self.size = self._accelerator.process_index, self._accelerator.num_processes
        self._of: nn.Module | None = None
        self._forward: nn.Module | None = None

    def forward(self, network: nn.Module) -> nn.Module:
        if self._of is not network or self._forward is None:
            share_batch_statistics(network)
            self._of, self._forward = network, self._accelerator.prepare_model(network, device_placement=False)
        return self._forward

    def total(self, values: torch.Tensor) -> torch.Tensor:
        try:
            found: torch.Tensor = self._accelerator.reduce(values.clone(), "sum")
        except RuntimeError as error:
            raise BiounetError(f"another process of this training ended: {_line(error)}; --resume goes on") from error
        return found

    def any(self, asked: bool) -> bool:
        return bool(self.total(torch.tensor(float(asked), device=self._accelerator.device)) > 0)

    def of_first(self, make: Callable[[], T]) -> T:
        if self.rank:
            told: list[Any] = [None]
        else:
            try:
                told = [(make(), None)]
            except BiounetError as error:
                told = [(None, error)]
        (value, refused), *_ = self._broadcast(told)
        if refused is not None:
            raise refused
        made: T = value
        return made


def launched() -> tuple[int, int]:
    """Number of this process and how many there are, as a launcher tells: (0, 1) without one."""
    return int(os.environ.get(_RANK, "0")), int(os.environ.get(_SIZE, "1"))


def join(device: str) -> tuple[Together, str]:
    """The other processes that a launcher started, and this one's device; `ALONE` without a launcher.

    ``device``: "auto", "cpu" or "cuda", of which each takes one of its own. Raises `UsageError` for others, and
    where accelerate is missing.
    """
    if launched()[1] == 1:
        return ALONE, pick_device(device)
    picked = pick_device(device)
    if picked not in ("cpu", "cuda"):
        raise UsageError(f"--device {device}: several processes train on cpu, or on cuda, where each takes a GPU")
    check_accelerate()
    group = _Accelerated(picked)
    return group, picked if picked == "cpu" else f"cuda:{os.environ.get(_LOCAL_RANK, '0')}"


def check_accelerate() -> None:
    """Raise `UsageError` where accelerate is not installed."""
    from importlib.util import find_spec

    if find_spec("accelerate") is None:
        python = "python" if sys.platform == "win32" else "python3"
        raise UsageError(f"training in several processes needs accelerate: {python} -m pip install 'biounet[parallel]'")


def check_batch(batch: int, processes: int) -> None:
    """Raise `UsageError` where the samples of a step cannot be shared evenly."""
    if batch % processes:
        least = processes * -(-batch // processes)
        raise UsageError(
            f"{processes} processes: a step has {counted(batch, 'sample')} to share between them; give a "
            f"multiple of {processes}, as --set training.batch_size={least}"
        )


class _SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the mean and variance over the samples of all processes.

    torch's own SyncBatchNorm computes the same and refuses tensors on the CPU.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        values = input.float()
        over = (0, *range(2, values.ndim))
        shape = (1, -1, *(1,) * (values.ndim - 2))
        mean = _mean_of_all(values.mean(over))
        centred = values - mean.view(shape)
        variance = _mean_of_all((centred * centred).mean(over))
        self._remember(mean.detach(), variance.detach(), values.numel() // values.shape[1])
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        number = count * torch.distributed.get_world_size()
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * number / max(1, number - 1)).to(self.running_var.dtype), share)


class _SharedBatchNorm2d(_SharedBatchNorm, nn.BatchNorm2d):
    pass


class _SharedBatchNorm3d(_SharedBatchNorm, nn.BatchNorm3d):
    pass


_SHARED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: _SharedBatchNorm2d,
    nn.BatchNorm3d: _SharedBatchNorm3d,
}


def share_batch_statistics(network: nn.Module) -> None:
    """Let batch normalisation, in place, take its statistics over the samples of all processes while training."""
    for layer in network.modules():
        layer.__class__ = _SHARED.get(type(layer), type(layer))


class _Sum(torch.autograd.Function):
    """The sum over all processes; what comes back to it is summed likewise."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        summed = values.detach().clone()
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        summed = gradient.contiguous().clone()
        torch.distributed.all_reduce(summed)
        return summed


def _mean_of_all(values: torch.Tensor) -> torch.Tensor:
    summed: torch.Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return summed / torch.distributed.get_world_size()


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
