"""biounet: image segmentation from a few annotated images; the U-Net paper, exactly, without seams.

Public names are loaded when they are first used, so that importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "train": "training.train",
    "load": "api",
    "predict": "api",
    "evaluate": "api",
    "check": "api",
    "export": "api",
    "ensemble": "inference.ensembles",
    "UNet": "networks.unet",
    "Geometry": "geometry",
    "AxisGeometry": "geometry",
    "unet_geometry": "geometry",
    "verify_geometry": "networks.verify",
    "predict_tiled": "inference.tiling",
    "elastic_deformation": "samples.elastic",
    "border_weights": "samples.border_weights",
    "class_weights": "samples.border_weights",
    "weight_map": "samples.border_weights",
    "weighted_cross_entropy": "training.loss",
    "pixel_error": "evaluation.pixels",
    "dice": "evaluation.pixels",
    "iou": "evaluation.pixels",
    "rand_error": "evaluation.rand",
    "v_rand": "evaluation.rand",
    "v_info": "evaluation.rand",
    "warping_error": "evaluation.boundaries",
    "seg": "evaluation.objects",
    "det": "evaluation.objects",
    "ap": "evaluation.objects",
    "f1": "evaluation.objects",
    "pq": "evaluation.objects",
    "BiounetError": "errors",
    "UsageError": "errors",
    "DataError": "errors",
    "ModelFileError": "errors",
    "PartialError": "errors",
}
_MODULES = ("geometry", "settings", "errors")

__all__ = sorted([*_PUBLIC, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"biounet.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"biounet.{name}")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("biounet")
    raise AttributeError(f"module 'biounet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
