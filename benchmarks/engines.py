"""A 512x512 image from file to labels, in a loaded process, by every engine and precision.

    python benchmarks/engines.py [--preset paper|standard] [--rounds 5] [--isa avx2] [--only torch-fp32,openvino-int8]

The network has random weights, batch normalisation as in the preset, and one tile of 700x700 (paper's
depth) covers the image. Every round runs all engines one after the other, so that a busy moment hits
them alike. "tile" is the network alone, "image" reads a TIFF, normalises, predicts, finds objects and
writes labels. ``--isa avx2`` limits the processor's instructions, as on an ordinary laptop; ONNX
Runtime has no such limit and is left out then. Rival: the first, torch as it is usually run, eager, fp32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
SIDE = 512
EVERY = [("torch", "fp32"), ("torch", "bf16"), ("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]
EVERY += [("openvino", "int8")]


def random_model(preset: str):  # type: ignore[no-untyped-def]
    """A model of random weights with crops of synthetic cells, as training would leave it."""
    import torch

    from biounet import UNet
    from biounet.images.normalize import Normalisation
    from biounet.inference.calibration import calibration_crops
    from biounet.model_file import Model
    from biounet.samples.synthetic import synthetic_cells

    torch.manual_seed(0)
    network = UNet(width=64) if preset == "paper" else UNet(width=16, batch_norm=True)
    network.eval()
    normalisation = Normalisation("image", (), ())
    images = [normalisation.apply(synthetic_cells((SIDE, SIDE), seed=seed)[0][None]) for seed in range(7)]
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    return Model(
        network.description, network.geometry, weights, normalisation, "instances", ("background", "cell"), (), ("0",),
        calibration=calibration_crops(images),
    )  # fmt: skip


def measure(preset: str, rounds: int, names: list[tuple[str, str]]) -> None:
    """Print medians and ratios."""
    import numpy as np
    import tifffile

    from biounet.inference.engines import choose_engine
    from biounet.prediction.predict import Request, predict_files
    from biounet.samples.synthetic import synthetic_cells

    model = random_model(preset)
    engines = {}
    for name, precision in names:
        start = time.perf_counter()
        choice = choose_engine(model, engine=name, precision=precision, device="cpu", least_agreement=0)
        engines[name, precision] = choice.engine
        print(f"{name} {precision}: ready after {time.perf_counter() - start:.1f} s; {choice.agreement}", flush=True)
    batch = np.random.default_rng(0).standard_normal((1, 1, 700, 700)).astype(np.float32)
    tiles: dict[tuple[str, str], list[float]] = {key: [] for key in engines}
    images: dict[tuple[str, str], list[float]] = {key: [] for key in engines}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.tif"
        tifffile.imwrite(path, synthetic_cells((SIDE, SIDE), seed=99)[0])
        for _ in range(rounds + 1):
            for key, engine in engines.items():
                start = time.perf_counter()
                engine(batch)
                tiles[key].append(time.perf_counter() - start)
                start = time.perf_counter()
                predict_files(model, engine, [path], Request(Path(folder) / "out", save=("labels",)))
                images[key].append(time.perf_counter() - start)
    rival = statistics.median(images[names[0]][1:])
    print(f"{preset} network, {SIDE}x{SIDE}, medians of {rounds} (smallest in brackets), seconds")
    for key in engines:
        tile, image = tiles[key][1:], images[key][1:]
        ratio = rival / statistics.median(image)
        print(
            f"{key[0]:9} {key[1]:5} tile {statistics.median(tile):6.3f} ({min(tile):.3f})   image "
            f"{statistics.median(image):6.3f} ({min(image):.3f})   {ratio:5.2f} times the first"
        )


def main() -> None:
    """Measure here, or in a child whose instructions are limited."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("paper", "standard"), default="standard")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 100), metavar="N")
    parser.add_argument("--isa", choices=("all", "avx2"), default="all")
    parser.add_argument("--only", help="of the engines, with commas; the rival first")
    options = parser.parse_args()
    if options.isa == "avx2" and os.environ.get("ONEDNN_MAX_CPU_ISA") != "AVX2":
        raise SystemExit(subprocess.run([sys.executable, *sys.argv], env=os.environ | AVX2, check=False).returncode)
    limited = options.isa == "avx2"
    names = [key for key in EVERY if not limited or (key[0] != "onnx" and key[1] != "bf16")]
    asked = [tuple(text.split("-")) for text in options.only.split(",")] if options.only else names
    measure(options.preset, options.rounds, [key for key in names if key in asked])


if __name__ == "__main__":
    main()
