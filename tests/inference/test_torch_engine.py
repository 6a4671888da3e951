import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from biounet.errors import ModelFileError, UsageError
from biounet.geometry import unet_geometry
from biounet.inference.engines import make_engine
from biounet.inference.torch_engine import TorchEngine, pick_device, torch_network


def batch_for(geometry, channels=1, count=2, seed=0):
    size = geometry.input_size((10,) * geometry.ndim)
    return np.random.default_rng(seed).standard_normal((count, channels, *size)).astype(np.float32)


@pytest.mark.parametrize("arguments", [{}, {"batch_norm": True}, {"ndim": 3}, {"in_channels": 3, "classes": 4}])
def test_the_engine_computes_what_the_network_computes(random_model, random_network, arguments):
    network = random_network(**arguments)
    engine = make_engine(random_model(**arguments), engine="torch", device="cpu")
    batch = batch_for(network.geometry, arguments.get("in_channels", 1))
    with torch.no_grad():
        expected = network(torch.from_numpy(batch)).numpy()
    logits = engine(batch)
    assert logits.dtype == np.float32
    assert logits.shape == (2, arguments.get("classes", 2), *network.geometry.output_size(batch.shape[2:]))
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
    assert (engine.name, engine.precision, engine.geometry) == ("torch", "fp32", network.geometry)


def test_nothing_random_is_left(random_network):
    """Dropout and batch statistics are those of evaluation, also for a network handed over in training."""
    network = random_network(batch_norm=True, dropout=0.5).train()
    engine = TorchEngine(network)
    batch = batch_for(engine.geometry)
    first = engine(batch)
    assert np.array_equal(engine(batch), first)
    assert np.allclose(engine(batch[:1]), first[:1], atol=1e-5 * np.abs(first).max())


def test_a_batch_that_is_not_contiguous_and_one_that_is_read_only(random_network):
    engine = TorchEngine(random_network())
    batch = batch_for(engine.geometry)
    expected = engine(batch)
    turned = np.ascontiguousarray(batch.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    assert not turned.flags.c_contiguous
    assert np.array_equal(engine(turned), expected)


def test_bf16_is_close_to_fp32_and_not_the_same(random_model):
    model = random_model(width=8, depth=2)
    exact, fast = (make_engine(model, engine="torch", device="cpu", precision=p) for p in ("fp32", "bf16"))
    batch = batch_for(model.geometry)
    difference = np.abs(exact(batch) - fast(batch)).max() / np.abs(exact(batch)).max()
    assert fast(batch).dtype == np.float32
    assert 1e-5 < difference < 0.05


def test_devices():
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cuda", "mps", "cpu")
    assert pick_device(pick_device("auto")) == pick_device("auto")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--device 'cuda' is not present"):
            pick_device("cuda")


def test_true_fp32_is_asked_for_on_cuda(random_network):
    """cuDNN would round convolutions to TF32; inside a call the flag is off, on CPUs nothing is touched."""
    engine = TorchEngine(random_network())
    with engine._exact():
        assert torch.backends.cudnn.allow_tf32
    engine.device = torch.device("cuda")
    with engine._exact():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_a_precision_of_other_engines(random_network):
    with pytest.raises(UsageError, match="--precision 'int8' is not known to the torch engine"):
        TorchEngine(random_network(), precision="int8")


def test_weights_that_do_not_fit(random_model):
    model = random_model(width=3)
    with pytest.raises(ModelFileError, match="weights do not fit the network"):
        torch_network(replace(model, network={**model.network, "width": 4}))
    with pytest.raises(ModelFileError, match="weights do not fit the network"):
        torch_network(replace(model, weights={k: v for k, v in model.weights.items() if k != "head.bias"}))


def test_a_network_that_is_not_in_the_table(random_model):
    model = random_model()
    with pytest.raises(UsageError, match="network 'vit' is not known; known are unet"):
        make_engine(replace(model, network={"name": "vit"}), engine="torch")
    with pytest.raises(UsageError, match="does not take these settings"):
        make_engine(replace(model, network={**model.network, "future": 1}), engine="torch")


class Blur(torch.nn.Module):
    """A network of the user's own: one 3x3 convolution."""

    def __init__(self, in_channels, classes):
        super().__init__()
        self.geometry = unet_geometry(0)
        self.first = torch.nn.Conv2d(in_channels, 2, 3)
        self.second = torch.nn.Conv2d(2, classes, 3)

    def forward(self, x):
        return self.second(self.first(x))


def test_a_foreign_network_is_never_imported(random_model, tmp_path, monkeypatch):
    """The model file names it, and that is all: a module of this name is there and stays unread."""
    (tmp_path / "trap.py").write_text("raise SystemExit('imported because a model file asked for it')")
    monkeypatch.syspath_prepend(tmp_path)
    network = Blur(1, 2).eval()
    model = replace(
        random_model(),
        network={"name": "foreign", "factory": "trap.make"},
        geometry=network.geometry,
        weights={name: value.numpy() for name, value in network.state_dict().items()},
    )
    with pytest.raises(UsageError, match=r"network of your own \(trap.make\); pass it again as network=factory"):
        make_engine(model, engine="torch")
    assert "trap" not in sys.modules
    asked = []

    def factory(*arguments):
        asked.append(arguments)
        return Blur(*arguments)

    engine = make_engine(model, engine="torch", device="cpu", factory=factory)
    assert asked == [(1, 2)]
    batch = batch_for(network.geometry)
    with torch.no_grad():
        assert np.allclose(engine(batch), network(torch.from_numpy(batch)).numpy(), atol=1e-6)


def test_a_factory_beside_a_network_of_the_table_is_not_asked(random_model):
    def factory(*_):
        raise AssertionError("asked")

    assert make_engine(random_model(), engine="torch", device="cpu", factory=factory).name == "torch"
