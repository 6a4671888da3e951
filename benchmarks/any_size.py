"""Images of growing size under one memory limit: seconds per megapixel, and the most that the process held.

    python benchmarks/any_size.py                         2048 to 16384 squared, --memory 2GB
    python benchmarks/any_size.py --sizes 2048,4096 --memory 1.5GB --out RESULTS

A small network is trained on synthetic cells (or give --model), then ``biounet predict`` runs once a size in a
process of its own. The image is written in bands, never held as a whole; a block of synthetic cells is repeated in
it, shifted and mirrored. --apart predicts the largest again in two commands, the tiles and what comes after them:
what another device for the network would spare, and what it would not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from biounet.samples.synthetic import synthetic_cells

_CELLS = 1024  # side of the block that is repeated
_TILE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", default="2048,4096,8192,16384")
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--model", type=Path, help="instead of a small one trained for this")
    parser.add_argument("--steps", type=int, default=300, help="of that training")
    parser.add_argument("--apart", action="store_true", help="also the largest in two parts")
    parser.add_argument("--out", type=Path, help="folder to work in, kept afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = options.model or trained(folder, options.steps)
        rows, sizes = [], [int(size) for size in options.sizes.split(",")]
        for size in sizes:
            image = folder / f"{size}.tif"
            write_image(image, size)
            rows.append(predicted(model, image, folder / f"out_{size}", size, options.memory))
            print(rows[-1], flush=True)
            if options.apart and size == max(sizes):
                print(apart(model, image, folder / f"apart_{size}", options.memory, rows[-1]["start_up"]), flush=True)
            image.unlink()
        print(table(rows))


def trained(folder: Path, steps: int) -> Path:
    """A network of width 8 and depth 3 that knows synthetic cells a little."""
    model = folder / "small.safetensors"
    if model.exists():
        return model
    for index in range(6):
        image, labels = synthetic_cells((256, 256), seed=index)
        for kind, array in (("images", image), ("masks", labels.astype(np.uint16))):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / "data" / kind / f"{index}.tif", array)
    settings = [word for s in ("network.width=8", "network.depth=3", "training.validations=2") for word in ("--set", s)]
    run("train", folder / "data", "--out", model, "--steps", steps, *settings)
    return model


def write_image(path: Path, size: int) -> None:
    """A tiled TIFF of repeated synthetic cells, each block mirrored in its own way."""
    cells, _ = synthetic_cells((_CELLS, _CELLS), seed=100)

    def tiles() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        turns = rng.integers(0, 4, (size // _CELLS + 1, size // _CELLS + 1))
        for y in range(0, size, _TILE):
            for x in range(0, size, _TILE):
                turn = int(turns[y // _CELLS, x // _CELLS])
                block = cells[:: 1 - 2 * (turn & 1), :: 1 - (turn & 2)]
                yield np.ascontiguousarray(block[y % _CELLS :, x % _CELLS :][:_TILE, :_TILE])

    tifffile.imwrite(
        path, tiles(), shape=(size, size), dtype=cells.dtype, tile=(_TILE, _TILE), compression="zlib", bigtiff=True
    )


def predicted(model: Path, image: Path, out: Path, size: int, memory: str) -> dict[str, float]:
    """One run in a process of its own: seconds, megapixels, and the most memory of the whole process tree."""
    peak = run("predict", model, image, "--out", out, "--memory", memory, "--save", "labels")
    facts = json.loads((out / "run.json").read_text(encoding="utf-8"))
    (one,) = facts["inputs"]
    return {
        "size": size,
        "objects": one["objects"],
        "seconds": facts["seconds"]["compute"],
        "seconds_per_megapixel": facts["seconds"]["compute"] / size**2 * 1e6,
        "start_up": facts["seconds"]["start_up"],
        "peak_gib": peak / 2**30,
        "labels_changed_at_seams": one["seams"]["labels_changed"],
    }


def apart(model: Path, image: Path, out: Path, memory: str, start_up: float) -> dict[str, float]:
    """Seconds of the tiles alone, and of joining objects and writing them, each without starting up."""
    seconds = {}
    for name, option in (("tiles", ("--shard", "1/1")), ("joined_and_written", ("--merge",))):
        begin = time.perf_counter()
        run("predict", model, image, "--out", out, "--memory", memory, "--save", "labels", *option)
        seconds[name] = time.perf_counter() - begin - start_up
    return seconds


def run(*arguments: object) -> int:
    """A command; the most bytes that its process tree held, sampled every 20 ms (Linux), or 0."""
    words = [sys.executable, "-m", "biounet", *map(str, arguments)]
    print("biounet", *arguments, flush=True)
    process = subprocess.Popen(words, env=os.environ)
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], tree_bytes(process.pid))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    if code:
        sys.exit(code)
    return peak[0]


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process and all below it."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text(encoding="ascii").split())
        except (OSError, ValueError, IndexError):
            continue
    return total


def table(rows: list[dict[str, float]]) -> str:
    """All runs in markdown."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(f'{row[name]:.4g}' for name in names)} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
