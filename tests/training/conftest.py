"""Listeners, finished runs and processes that can be killed: what the tests of training share."""

import multiprocessing
import sys

import pytest

from biounet.training.run_files import RunFiles
from biounet.training.train import train


@pytest.fixture
def record():
    """A listener that keeps the events in ``record.events``."""

    class Record:
        def __init__(self):
            self.events = []

        def __call__(self, event):
            self.events.append(event)

        def of(self, name):
            return [event for event in self.events if type(event).__name__ == name]

    return Record()


@pytest.fixture
def finished(cells, tiny, tmp_path):
    """The path of a model trained without interruption: ``finished(steps=12, overrides...)``."""

    def run(*overrides, data=None, steps=12, seed=0, name="whole", preset="standard"):
        out = tmp_path / f"{name}.safetensors"
        train(cells if data is None else data, out, settings=tiny(*overrides, preset=preset), steps=steps, seed=seed)
        return out

    return run


@pytest.fixture
def metrics():
    """The lines of a run's ``metrics.jsonl`` as (event, step)."""

    def read(out):
        return [(line["event"], line["step"]) for line in RunFiles(out).metrics()]

    return read


@pytest.fixture(scope="session")
def spawn():
    """Start Python code in a process of its own: ``spawn(code, name=value)``."""
    if sys.platform == "win32":
        pytest.skip("processes on Windows know no signals")
    context = multiprocessing.get_context("spawn")
    if sys.platform == "linux":  # elsewhere forking is not safe once torch is imported
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["biounet.training.train", "biounet.cli.app", "torch._dynamo"])

    def start(code, **values):
        process = context.Process(target=exec, args=(code, values))
        process.start()
        return process

    return start


@pytest.fixture(scope="session")
def stop_at():
    """A listener that raises after a step: ``stop_at(step, error)``."""

    def make(step, error):
        def listen(event):
            if type(event).__name__ == "StepDone" and event.step == step:
                raise error

        return listen

    return make


@pytest.fixture
def arguments(cells, write_folder):
    """The command line of a run that takes a second or two, but for --out."""
    overrides = ["network.width=2", "network.depth=1", "training.tile=16", "training.validations=2"]
    options = [part for key in [*overrides, "training.precision=fp32"] for part in ("--set", key)]
    return ["train", str(write_folder(cells)), "--steps", "160", *options]
