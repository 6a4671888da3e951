"""Optional packages: imported when needed, refused in one line with the command that installs them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from biounet.errors import UsageError

# package: the extra of biounet that brings it
EXTRAS = {
    "openvino": "openvino",
    "onnxruntime": "onnx",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "nncf": "fast",
    "distributed": "cluster",
    "torch": "",
}


def is_present(package: str) -> bool:
    """Whether a package can be imported; it is not imported for that."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # blocked: there is an entry None in sys.modules
        return False


def import_or_refuse(package: str, wanted_by: str) -> ModuleType:
    """The imported package, or `UsageError` with the command that installs it."""
    try:
        with _no_telemetry():
            return importlib.import_module(package)
    except ImportError as error:
        extra = EXTRAS[package]
        what = f"'biounet[{extra}]'" if extra else package
        raise UsageError(
            f"{wanted_by} needs the package {package}, which cannot be imported ({error}); pip install {what}"
        ) from error


def installed_version(package: str) -> str:
    """The version of an installed package, "" where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Imports find no ``openvino_telemetry``: with it, NNCF reports each use to its maker unasked.

    NNCF takes a silent stand-in where that package is missing.
    """
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
