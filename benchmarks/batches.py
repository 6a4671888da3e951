"""Small tiles one by one and in batches: milliseconds a tile, and whether the bits stay the same.

    python benchmarks/batches.py [--rounds 5]

The standard network with random weights. Rival: a batch of one.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from biounet.inference.engines import make_engine
from engines import random_model

TILES = 8


def main() -> None:
    """Print a line for each engine and side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    model = random_model("standard")
    for name in ("torch", "onnx", "openvino"):
        engine = make_engine(model, engine=name, device="cpu")
        for side in (204, 252, 316, 444):
            tiles = np.random.default_rng(0).standard_normal((TILES, 1, side, side)).astype(np.float32)
            alone = np.concatenate([engine(tile[None]) for tile in tiles])
            line = f"{name:9} input {side}:"
            for size in (1, 2, 4, 8):
                times, same = [], True
                for _ in range(rounds + 1):
                    start = time.perf_counter()
                    found = np.concatenate([engine(tiles[n : n + size]) for n in range(0, TILES, size)])
                    times.append((time.perf_counter() - start) / TILES * 1e3)
                    same = same and np.array_equal(found, alone)
                line += f"  {size} at once {statistics.median(times[1:]):6.1f} ms{'' if same else ' (other bits)'}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
