"""The precision of a training follows from the device: bf16 only where it pays, and 64 bits nowhere."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from biounet import predict
from biounet.planning import precision
from biounet.planning.precision import bf16_pays_on_cpu, pick_precision
from biounet.settings import read_settings
from biounet.training.train import train

AMD, INTEL = "vendor_id : AuthenticAMD", "vendor_id : GenuineIntel"


def test_precision_as_asked():
    assert pick_precision("fp32", "cuda") == "fp32"
    assert pick_precision("bf16", "mps") == "bf16"


@pytest.mark.parametrize(
    ("capability", "avx512_bf16", "amx", "vendor", "expected"),
    [
        ("AVX512", True, True, INTEL, True),
        ("AVX512", True, False, INTEL, False),  # computed, but no faster than fp32
        ("AVX512", True, False, AMD, True),
        ("AVX512", True, None, AMD, True),  # a torch without the question
        ("AVX512", False, True, AMD, False),
        ("AVX512", None, True, AMD, False),
        ("AVX2", True, True, AMD, False),
        ("DEFAULT", True, True, "Apple M4", False),
    ],
)
def test_bf16_pays_with_matrix_units_or_on_amd(monkeypatch, capability, avx512_bf16, amx, vendor, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(precision, "_vendor", lambda: vendor)
    for name, value in {"_is_avx512_bf16_supported": avx512_bf16, "_is_amx_tile_supported": amx}.items():
        if value is None:
            monkeypatch.delattr(torch.cpu, name, raising=False)
        else:
            monkeypatch.setattr(torch.cpu, name, lambda value=value: value, raising=False)
    assert bf16_pays_on_cpu() is expected
    assert pick_precision("auto") == ("bf16" if expected else "fp32")
    assert pick_precision("auto", "mps") == "fp32"


def test_the_vendor_is_read_where_the_system_tells_it():
    assert isinstance(precision._vendor(), str)


def test_automatic_precision_on_a_gpu_asks_the_gpu_and_only_when_it_is_trained_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(precision, "bf16_pays_on_cpu", lambda: True)
    assert pick_precision("auto", "cuda:1") == "fp32"  # emulated is not computed
    assert pick_precision("auto", "cpu") == "bf16"


class NoFloat64(TorchDispatchMode):
    """Every operation of torch in this thread, refused where a number of 64 bits goes in or comes out."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        numbers = [x for x in tree_leaves((args, kwargs, made)) if isinstance(x, torch.Tensor)]
        assert not any(x.dtype in (torch.float64, torch.complex128) for x in numbers), func
        return made


def test_the_witness_sees_float64():
    with NoFloat64(), pytest.raises(AssertionError):
        torch.ones(2, dtype=torch.float64)
    with NoFloat64(), pytest.raises(AssertionError):
        torch.ones(2).to(torch.float64)


_SMALL = ("training.tile=16", "training.validations=1")
_NETWORKS = {
    "unet": ("network.width=2", "network.depth=1", "network.batch_norm=false"),
    "unet with batch statistics": ("network.width=2", "network.depth=1", "network.batch_norm=true"),
    "fcn8s": ("network.name=fcn8s", "network.width=2"),
    "patch_cnn": ("network.name=patch_cnn", "network.width=2", "training.batch_size=2"),
}


@pytest.mark.parametrize("preset", ["paper", "standard"])
@pytest.mark.parametrize("network", _NETWORKS)
def test_no_float64_reaches_the_device(cells, preset, network):
    """Apple's mps has none: steps, averages, validation, the golden sample and a prediction do without."""
    settings = read_settings(preset, overrides=(*_SMALL, *_NETWORKS[network]))
    with NoFloat64():
        model = train(cells[:2], settings=settings, steps=2)
        predict(model, cells[3][0], engine="torch")


def test_no_float64_reaches_the_device_in_volumes_of_several_classes(tiny):
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 9, (20, 24, 24)).astype(np.uint8), rng.integers(0, 3, (20, 24, 24))) for _ in range(2)]
    with NoFloat64():
        model = train(pairs, settings=tiny("data.ndim=3", "data.task=classes", "training.tile=8"), steps=2)
        predict(model, pairs[0][0], engine="torch")
