"""The precision of a training follows from the device: bf16 only where it pays."""

import pytest
import torch

from biounet.training import precision
from biounet.training.precision import bf16_pays_on_cpu, pick_precision

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
