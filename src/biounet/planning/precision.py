"""Which precision a training computes in: bf16 only where it is the faster one."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def pick_precision(asked: str, device: str = "cpu") -> str:
    """The precision of the training, "fp32" or "bf16"; "auto" follows from the device, never from a timing."""
    if asked != "auto":
        return asked
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device == "cpu" and bf16_pays_on_cpu() else "fp32"


def bf16_pays_on_cpu() -> bool:
    """Whether bf16 is faster than fp32 on this processor.

    So it is with matrix units (Intel AMX), and with AVX-512 BF16 on AMD, which multiplies twice as
    many a cycle. An Intel processor with AVX-512 BF16 but without AMX, as some virtual machines
    show it, multiplies no more of them than in fp32, and converting costs: 0.50 s a step of the
    standard preset against 0.34 s. Elsewhere (ARM, older x86) bf16 is emulated.
    """
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)  # no public names, and not in every torch
    avx512 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or avx512 is None or not avx512():
        return False
    return bool(amx is not None and amx()) or "AuthenticAMD" in _vendor()


def _vendor() -> str:
    """The text in which the system names the maker of the processor."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        return next((line for line in listing.read_text().splitlines() if line.startswith("vendor_id")), "")
    return platform.processor()
