"""Memory that one tile takes, predicted and measured, for every engine and precision.

    python benchmarks/memory.py [--width 24] [--sides 572,1020]

Each measurement is a process of its own: peak resident memory while one tile is computed, less the
peak before. Printed beside what `inference.cost` predicts; the largest share is what `MEMORY` should hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from biounet.inference.cost import MEMORY, UNetCost

MEASURE = """
import json, resource, sys
from dataclasses import replace
import numpy as np, torch
from biounet import UNet
from biounet.images.normalize import Normalisation
from biounet.inference.calibration import calibration_crops
from biounet.inference.engines import ENGINES, Wanted
from biounet.model_file import Model

def peak():
    if sys.platform == "linux":  # of this program alone: ru_maxrss remembers the parent's
        line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

name, precision, width, side = json.loads(sys.argv[1])
torch.manual_seed(0)
network = UNet(width=width)
images = [np.random.default_rng(i).standard_normal((1, 64, 64)).astype(np.float32) for i in range(4)]
model = Model(network.description, network.geometry, {k: v.numpy() for k, v in network.state_dict().items()},
              Normalisation("image", (), ()), "classes", ("0", "1"), (0, 1), ("0",))
made = ENGINES[name].make(Wanted(model, precision, calibration=calibration_crops(images)))
made(np.zeros((1, 1, 188, 188), np.float32))
tile = np.random.default_rng(0).standard_normal((1, 1, side, side)).astype(np.float32)
if sys.platform == "linux":
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before = peak()
made(tile)
print(peak() - before)
"""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--sides", default="572,1020")
    options = parser.parse_args()
    print(f"width {options.width}; MB of one tile beyond what the program takes anyway")
    for name, precision in MEMORY:
        for side in map(int, options.sides.split(",")):
            asked = json.dumps([name, precision, options.width, side])
            done = subprocess.run([sys.executable, "-c", MEASURE, asked], capture_output=True, text=True, check=True)
            measured = int(done.stdout.split()[-1])
            held = int(UNetCost(1, 2, options.width, ((2, 2),) * 4).memory((side, side)))
            planned = held * MEMORY[name, precision]
            print(
                f"{name:9} {precision:5} {side:5}  measured {measured / 1e6:7.0f}  planned {planned / 1e6:7.0f}"
                f"  share of the values held {measured / held:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
