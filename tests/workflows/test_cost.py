"""What a prediction costs is measured in a process of its own, whatever the one that asks holds."""

import sys

import numpy as np
import pytest

from biounet.model_file import save_model
from biounet.workflows.cost import prediction_cost


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not say")
def test_memory_is_that_of_the_prediction_and_not_of_who_asks(tmp_path, random_model):
    model = random_model(width=16, depth=1)
    save_model(tmp_path / "model.safetensors", model)
    image = np.random.default_rng(0).random((1, 400, 400), np.float32)
    ballast = np.ones(1 << 30, np.uint8)  # the peak of this process, far above what the prediction takes
    cost = prediction_cost([tmp_path / "model.safetensors"], image)
    assert ballast.nbytes > cost["memory_bytes"]
    assert cost["memory_bytes"] >= 4 * 16 * 400 * 400  # one layer of the first level
    assert cost["parameters"] == sum(value.size for value in model.weights.values())
    assert cost["seconds_per_megapixel"] > 0
