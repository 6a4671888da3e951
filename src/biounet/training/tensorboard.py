"""The course of a training for TensorBoard: a listener that writes its event files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from biounet.errors import UsageError
from biounet.training.events import Finished, InFold, Planned, TrainEvent
from biounet.training.loop import StepDone, Validated


class TensorBoard:
    """Writes loss, learning rate and seconds of each step, and the scores of each validation, below ``folder``.

    Of a cross-validation each fold has a folder of its own, ``fold-1`` and so on, the run on all images
    ``all-images``. What was written beyond the step at which a run is resumed no longer counts.
    Raises `UsageError` where tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise UsageError("--tensorboard needs tensorboard: pip install 'biounet[tensorboard]'")
        self.folder = folder
        self._writers: dict[int, Any] = {}  # by fold, 0 outside folds

    def __call__(self, event: TrainEvent) -> None:
        if isinstance(event, InFold):
            self._hear(event.event, event.fold, f"fold-{event.fold}" if event.fold <= event.folds else "all-images")
        else:
            self._hear(event, 0, "")

    def _hear(self, event: TrainEvent, fold: int, name: str) -> None:
        match event:
            case Planned() if fold not in self._writers:
                self._writers[fold] = self._open(name, event.resumed_at)
            case StepDone():
                for name in ("loss", "learning_rate", "seconds"):
                    self._writers[fold].add_scalar(f"step/{name}", getattr(event, name), event.step)
            case Validated():
                for name, value in event.scores.items():
                    self._writers[fold].add_scalar(f"held back/{name}", value, event.step)
                self._writers[fold].flush()
            case Finished():
                self._writers[fold].close()

    def _open(self, name: str, resumed_at: int) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder / name), purge_step=resumed_at + 1 if resumed_at else None)
