"""The weights of the loss between touching cells: python examples/weight_map.py [OUT.png]"""

import sys

import numpy as np
from matplotlib.figure import Figure

from biounet.labels.targets import carve, class_targets
from biounet.samples.border_weights import class_weights, weight_map

y, x = np.mgrid[:200, :200]
centres = np.random.default_rng(1).uniform(10, 190, (22, 2))
distances = np.hypot(y[..., None] - centres[:, 0], x[..., None] - centres[:, 1])
cells = carve(np.where(distances.min(-1) < 24, distances.argmin(-1) + 1, 0), width=2)
targets = class_targets(cells, task="instances")
weights = weight_map(cells, targets, class_weights(np.bincount(targets.ravel())), w0=10, sigma=5)

figure = Figure(figsize=(11, 3.6), layout="constrained")
pictures = {"cells": (cells, "nipy_spectral"), "target": (targets, "gray"), "weight w(x)": (weights, "jet")}
for axes, (title, (picture, colours)) in zip(figure.subplots(1, 3), pictures.items(), strict=True):
    shown = axes.imshow(picture, cmap=colours, interpolation="nearest")
    axes.set(title=title, xticks=[], yticks=[])
figure.colorbar(shown)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "weight_map.png", dpi=100)
