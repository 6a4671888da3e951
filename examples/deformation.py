"""A smooth random deformation from a 3 x 3 grid of vectors: python examples/deformation.py [OUT.png]"""

import sys

import numpy as np
from matplotlib.figure import Figure

from biounet.samples.elastic import elastic_deformation

y, x = np.mgrid[:256, :256]
cells = ((y // 32 * 8 + x // 32 + 1) * (np.hypot(y % 32 - 16, x % 32 - 16) < 13)).astype(np.int32)
image = np.where(cells > 0, 0.8, 0.3) - 0.3 * ((y % 32 == 0) | (x % 32 == 0))
warped, labels = elastic_deformation(image, cells, rng=np.random.default_rng(4), grid=3, std_px=10)

figure = Figure(figsize=(10, 3.6), layout="constrained")
pictures = {"image": image, "deformed": warped, "labels (dark: unknown)": np.where(labels > 0, labels % 7 + 3, labels)}
for axes, (title, picture) in zip(figure.subplots(1, 3), pictures.items(), strict=True):
    axes.imshow(picture, cmap="gray" if "labels" not in title else "magma")
    axes.set(title=title, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "deformation.png", dpi=100)
