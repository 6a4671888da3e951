"""Commands run in this process; a tiny data folder and a model trained on it, made once."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biounet import cli

TINY = ["--set", "network.width=2", "--set", "network.depth=1", "--set", "training.tile=16", "--device", "cpu"]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object on standard output; fails where there is anything else."""
        assert self.out.endswith("\n")
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    @property
    def complaint(self):
        """The last line on standard error: what a command that failed says."""
        lines = self.err.splitlines()
        assert [line.startswith("biounet: ") for line in lines] == [False] * (len(lines) - 1) + [True], self.err
        assert "Traceback" not in self.err
        return lines[-1].removeprefix("biounet: ")


@pytest.fixture
def biounet(capsys):
    """Run a command with these arguments."""

    def run(*arguments):
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def train_tiny(biounet):
    """Train the smallest network for two steps."""

    def run(data, out, *arguments):
        steps = [] if "--budget" in arguments or "--steps" in arguments else ["--steps", "2"]
        return biounet("train", data, "--out", out, *TINY, *steps, *arguments)

    return run


def image_and_mask(count, seed, shape=(48, 48)):
    """``count`` bright squares on noise, and their ids."""
    mask = np.zeros(shape, np.uint16)
    for index in range(count):
        y, x = divmod(index, 4)
        mask[2 + 12 * y : 11 + 12 * y, 2 + 12 * x : 11 + 12 * x] = index + 1
    noise = np.random.default_rng(seed).normal(0, 10, shape)
    return (60 + 120 * (mask > 0) + noise).clip(0, 255).astype(np.uint8), mask


def write_data(folder, pairs):
    for name, (image, mask) in pairs.items():
        for kind, array in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / kind / f"{name}.tif", array)
    return folder


@pytest.fixture
def make_data(tmp_path):
    """A data folder of one's own: make_data(name=(image, mask), ...) or the three images as they are."""

    def make(folder="data", **pairs):
        return write_data(tmp_path / folder, pairs or three_images())

    return make


def three_images():
    return {f"zelle {count}": image_and_mask(count, count) for count in (5, 9, 14)}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Three annotated images of 48 x 48 with 5, 9 and 14 cells; not to be changed."""
    return write_data(tmp_path_factory.mktemp("Daten für Größe"), three_images())


@pytest.fixture(scope="session")
def model(data, tmp_path_factory):
    """A model of two steps; not to be changed."""
    path: Path = tmp_path_factory.mktemp("ein Modell") / "Zellkörper 1.safetensors"
    assert cli.run(["train", str(data), "--out", str(path), *TINY, "--steps", "2", "-q"]) == 0
    return path
