from dataclasses import replace

import numpy as np
import pytest
import torch

from biounet.inference.calibration import calibration_crops
from biounet.inference.torch_engine import torch_network
from biounet.networks.build import build


@pytest.fixture
def saved_model(random_model):
    """A model of any description as training leaves it: golden sample, crops, a checksum."""

    def make(description=None, kind="image", task="instances", **arguments):
        model = random_model(kind=kind, task=task, **arguments)
        if description is not None:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                network = build(description).eval()
            weights = {name: value.numpy() for name, value in network.state_dict().items()}
            model = replace(model, network=network.description, geometry=network.geometry, weights=weights)
        size = model.geometry.input_size((16,) * model.ndim)
        rng = np.random.default_rng(1)
        given = rng.standard_normal((1, len(model.channels), *size)).astype(np.float32)
        with torch.no_grad():
            logits = torch_network(model)(torch.from_numpy(given)).numpy()
        images = [rng.standard_normal((len(model.channels), *(30,) * model.ndim)).astype(np.float32) for _ in range(2)]
        known = model.with_golden(given, logits)
        return replace(
            known, calibration=calibration_crops(images), pixel_size_um=(0.5,) * model.ndim, sha256="ab" * 32
        )

    return make
