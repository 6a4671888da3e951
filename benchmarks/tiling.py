"""Time per output pixel of a large image: chosen tiles and engines beside the textbook loop and MONAI.

    python benchmarks/tiling.py [--preset paper|standard] [--side 2048] [--rounds 3] [--memory 2GB]

Tiles of one image cost the same, so one tile of each is timed, and the image's time is that of all
its tiles. The textbook loop is torch eager in fp32 with output tiles of 388 (input 572). MONAI's
``sliding_window_inference`` runs with its defaults (overlap 0.25, windows of 512) on an equally large
network with padded convolutions, timed on one window and scaled by their number.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import numpy as np
import torch
from torch import nn

from biounet.inference.engines import choose_engine
from biounet.inference.predict import parse_bytes, plan_for
from biounet.inference.tiling import plan_tiles
from biounet.inference.torch_engine import torch_network
from biounet.networks.unet import UNet
from engines import random_model

WINDOW, OVERLAP = 512, 0.25


class Padded(nn.Module):
    """The same network with zero-padded convolutions, as most people have it."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.padding = (1, 1)
                module._reversed_padding_repeated_twice = [1, 1, 1, 1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the input's size."""
        skips = []
        for level, block in enumerate(self.network.encoder):
            x = block(x)
            if level < len(self.network.pool):
                skips.append(x)
                x = self.network.pool[level](x)
        for level in reversed(range(len(self.network.pool))):
            x = self.network.decoder[level](torch.cat([self.network.up[level](x), skips[level]], 1))
        return self.network.head(x)


def main() -> None:
    """Print microseconds per output pixel and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("paper", "standard"), default="standard")
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="2GB", help="limit for a tile")
    options = parser.parse_args()
    memory = parse_bytes(options.memory, "--memory")
    model, size = random_model(options.preset), (options.side,) * 2
    jobs = {}
    plain = torch_network(model)
    jobs["textbook loop, torch fp32, 388"] = (
        lambda batch: plain(torch.from_numpy(batch)).numpy(), plan_tiles(size, model.geometry, 388),
    )  # fmt: skip
    for name, precision in (
        ("torch", "fp32"), ("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"),
    ):  # fmt: skip
        engine = choose_engine(model, engine=name, precision=precision, device="cpu", least_agreement=0).engine
        jobs[f"{name} {precision}, cheapest tiles"] = (engine, plan_for(size, engine, memory=memory))
    runs = {}
    for what, (engine, plan) in jobs.items():
        batch = np.random.default_rng(0).standard_normal((1, 1, *plan.input)).astype(np.float32)
        runs[what] = (lambda engine=engine, batch=batch: engine(batch), len(plan), str(plan))
    padded = Padded(UNet(**{k: v for k, v in model.network.items() if k != "name"})).eval()
    window = torch.randn(1, 1, WINDOW, WINDOW)
    step = round(WINDOW * (1 - OVERLAP))
    windows = (1 + math.ceil(max(0, options.side - WINDOW) / step)) ** 2
    with torch.inference_mode():
        runs["monai windows, torch fp32"] = (lambda: padded(window), windows, f"{windows} windows of {WINDOW}x{WINDOW}")
        times: dict[str, list[float]] = {what: [] for what in runs}
        for _ in range(options.rounds + 1):
            for what, (run, count, _) in runs.items():
                start = time.perf_counter()
                run()
                times[what].append((time.perf_counter() - start) * count)
    rival = statistics.median(next(iter(times.values()))[1:])
    print(f"{options.preset} network, {options.side}x{options.side}, medians of {options.rounds}, one tile timed")
    for what, seconds in times.items():
        median = statistics.median(seconds[1:])
        per_pixel = median / math.prod(size) * 1e6
        print(f"{what:32} {median:7.2f} s  {per_pixel:6.2f} us/pixel  {rival / median:5.2f} times  {runs[what][2]}")


if __name__ == "__main__":
    main()
