"""Packages that only some formats need: imported when such a file is met, else one line says how to get them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from biounet.images.arrays import MissingPackageError

# module: the package that brings it, what needs it, and the extra of biounet that installs it
_PACKAGES = {
    "pylibCZIrw.czi": ("pylibCZIrw", "Zeiss CZI", "czi"),
    "nd2": ("nd2", "Nikon ND2", "nd2"),
    "openslide": ("openslide", "a slide of this format", "slides"),
}


def load_package(path: Path, module: str) -> Any:
    """The imported module; raises `MissingPackageError` naming the file and the command where it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package, what, extra = _PACKAGES[module]
        raise MissingPackageError(
            f"{path}: {what} needs the package {package}, which is not installed: pip install 'biounet[{extra}]'"
        ) from None
