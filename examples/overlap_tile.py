"""Tiles without seams, figure 2 of the paper: python examples/overlap_tile.py [OUT.png]"""

import sys

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from biounet import UNet, predict_tiled
from biounet.geometry import mirrored
from biounet.inference.tiling import plan_tiles
from biounet.samples.synthetic import synthetic_cells

torch.manual_seed(0)
network = UNet(width=4, depth=3).eval()  # random weights: any network will do
image = synthetic_cells((180, 250), seed=3)[0] / np.float32(255)
function = torch.inference_mode()(lambda batch: network(torch.from_numpy(batch)).numpy())

plan = plan_tiles(image.shape, network.geometry, tile=76)
tiled = predict_tiled(function, image, network.geometry, plan=plan)
window = plan_tiles(image.shape, network.geometry, tile=image.shape).tile((0, 0))  # the whole image in one
whole = function(mirrored(image[None, None], window.start, window.stop))[0, :, : image.shape[0], : image.shape[1]]
difference = np.abs(tiled - whole).max(0) / np.abs(whole).max()

figure = Figure(figsize=(13, 3.8), layout="constrained")
left, middle, right = figure.subplots(1, 3)
around = [(-side, n + side) for n, (side, _) in zip(image.shape, network.geometry.margin, strict=True)]
extent = (around[1][0], around[1][1], around[0][1], around[0][0])
left.imshow(mirrored(image, *zip(*around, strict=True)), cmap="gray", extent=extent)
left.add_patch(Rectangle((0, 0), *image.shape[::-1], fill=False, ec="white", ls=":"))
tile = plan.tile((0, 2))
for (y, x), sides, colour in ((tile.start, plan.input, "blue"), ([s.start for s in tile.target], plan.output, "gold")):
    left.add_patch(Rectangle((x, y), sides[1], sides[0], fill=False, ec=colour, lw=2))
left.set(title=f"mirrored border; yellow is computed\nfrom blue: {plan}", xlim=extent[:2], ylim=extent[2:])
middle.imshow(tiled[1] - tiled[0], cmap="gray")
middle.set(title="output, tile by tile")
drawn = right.imshow(difference, cmap="magma", vmin=0, vmax=2e-5)
right.set(title=f"difference from one pass: at most {difference.max():.1g}\nof the largest logit, which is rounding")
figure.colorbar(drawn)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "overlap_tile.png", dpi=100)
