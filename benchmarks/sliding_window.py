"""Seconds per megapixel of the sliding window as described, of the same network run densely, and of U-Nets.

    python benchmarks/sliding_window.py [--windows 65,95] [--side 512] [--crop 16] [--repeat 3] [--threads N]

All on one image in one run, weights random, which changes no time. As described, every window is cut
out and classified by itself, 256 at a time; that is timed on a crop of --crop x --crop pixels and scaled
by area, which is exact but for rounding, as each pixel costs the same. The others run on the whole image
with mirrored borders. The U-Net's widths are those of the two presets.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from biounet.geometry import mirrored
from biounet.inference.predict import plan_for
from biounet.inference.tiling import predict_tiled
from biounet.inference.torch_engine import TorchEngine
from biounet.networks.build import parameter_count
from biounet.networks.fcn import FCN
from biounet.networks.patch_cnn import PatchCNN, sliding_logits
from biounet.networks.unet import UNet
from common import median_seconds


def whole_image(network: Any, image: np.ndarray[Any, Any], repeat: int) -> float:
    """Seconds per megapixel of a prediction by tiles."""
    engine = TorchEngine(network)
    plan = plan_for(image.shape[1:], engine)
    seconds = median_seconds(lambda: predict_tiled(engine, image, engine.geometry, plan=plan), repeat, warm=True).clock
    return seconds / image[0].size * 1e6


def pixel_by_pixel(network: PatchCNN, image: np.ndarray[Any, Any], crop: int, repeat: int) -> float:
    """Seconds per megapixel of one window after the other, from a crop."""
    half = network.window // 2
    window = torch.from_numpy(mirrored(image, (-half, -half), (crop + half, crop + half)))
    return median_seconds(lambda: sliding_logits(network.eval(), window), repeat, warm=True).clock / crop**2 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--windows", default="65,95")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--crop", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    image = np.random.default_rng(0).normal(size=(1, options.side, options.side)).astype(np.float32)
    rows = []
    for name, unet in (("U-Net, width 64", UNet()), ("U-Net, width 16", UNet(width=16))):
        rows.append((name, parameter_count(unet), whole_image(unet, image, options.repeat)))
    fcn = FCN(width=16)
    rows.append(("FCN-8s, width 16", parameter_count(fcn), whole_image(fcn, image, options.repeat)))
    for window in map(int, options.windows.split(",")):
        network = PatchCNN(window=window)
        size = parameter_count(network)
        dense = whole_image(network, image, options.repeat)
        slow = pixel_by_pixel(network, image, options.crop, options.repeat)
        rows.append((f"window {window}, densely", size, dense))
        rows.append((f"window {window}, pixel by pixel (from {options.crop}x{options.crop}, scaled)", size, slow))
    print(f"{options.side}x{options.side} pixels, {torch.get_num_threads()} threads, median of {options.repeat}")
    for name, size, seconds in rows:
        print(f"{seconds:10.2f} s per megapixel  {seconds / rows[0][2]:8.2f} times the first  {size:11,}  {name}")


if __name__ == "__main__":
    main()
