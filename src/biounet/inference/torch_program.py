"""A network as ``torch.export`` keeps it (.pt2): written without pickle, and read only after it was vetted.

``torch.export.load`` is not safe by itself. It unpickles whatever a file marks as pickled (tensors of odd
kinds, custom objects, the example input), runs text of the file as Python (sympy's expressions of sizes,
guards) and calls whatever name under ``torch`` the file gives as an operator. Files written here need
none of that but plain arithmetic of sizes. So a file is taken apart first: every member must be one of
those that are written here, every operator one of ``torch.ops.aten`` or of arithmetic, every expression
made of integers, symbols and arithmetic, every other text a plain name. Anything else is refused. What
passes is packed anew, so that torch reads the very bytes that were looked at.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biounet.errors import BiounetError, ModelFileError
from biounet.geometry import Geometry
from biounet.inference.convert import gives_one_pixel, quiet_exporter, sizes_for_exporter
from biounet.inference.passport import decode, encode
from biounet.model_file import Exported, Model

_ROOT = "network"
_PASSPORT = "extra/biounet"
_GRAPH, _EXAMPLE = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_FIXED = {"archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id"}
_TENSOR = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_LARGEST = 64_000_000_000  # bytes, unpacked
_ATEN = re.compile(r"torch\.ops\.aten\.[a-z]\w*\.[a-zA-Z]\w*")
_ARITHMETIC = {"add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge", "getitem"}
_CALLS = {"Symbol", "Integer", "Add", "Mul", "Max", "Min", "FloorDiv", "Mod", "CleanDiv", "PythonMod"}
_NAME = re.compile(r"[\w.@+\- ]*")
_SPEC = re.compile(r'[\[\]{}:,\s\d]|"(?:type|context|children_spec|builtins\.(?:tuple|list|dict)|null|\[\])"|null')


def write_program(network: Any, in_channels: int, path: Path) -> None:
    """Export a torch module with a ``geometry`` as .pt2, with a free batch and sizes by its geometry's rule.

    ``network``: in evaluation mode, on the CPU. No pickle is written, and no path of this machine. Raises
    `BiounetError` with the reason where torch cannot export it.
    """
    import torch

    example, free = sizes_for_exporter(network.geometry, in_channels)
    made = io.BytesIO()
    try:
        with quiet_exporter(), torch.no_grad():
            program = torch.export.export(network, (example,), dynamic_shapes=(free,))
            for node in program.graph.nodes:
                for key in ("stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node"):
                    node.meta.pop(key, None)
            if any(map(gives_one_pixel, network.geometry.axes)):
                _take_the_smallest(program)
            program._example_inputs = None  # would be pickled
            program._guards_code = []  # would be run as Python; engines check sizes by the geometry
            torch.export.save(program, made)
    except Exception as error:  # the exporter has no exception of its own
        raise BiounetError(
            f"the network cannot be exported by torch ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    members = _unpacked(made.getvalue())
    _vet(members)
    path.write_bytes(_packed(members))


def add_passport(path: Path, passport: bytes) -> bytes:
    """The bytes of an archive as `write_program` wrote it, with a passport."""
    members, _ = read_archive(path)
    return _packed(members | {_PASSPORT: encode(passport)})


def read_archive(path: Path) -> tuple[dict[str, bytes], bytes | None]:
    """The files of a .pt2 archive by their names, and its passport apart. `ValueError` where it is no archive."""
    members = _unpacked(path.read_bytes())
    passport = members.pop(_PASSPORT, None)
    return members, None if passport is None else decode(passport)


class Program:
    """An exported program in the place of a torch module, as `torch_engine.TorchEngine` takes it."""

    def __init__(self, module: Any, geometry: Geometry, description: dict[str, Any]) -> None:
        self._module, self.geometry, self.description = module, geometry, description

    def __call__(self, x: Any) -> Any:
        return self._module(x)

    def to(self, *arguments: Any, **options: Any) -> Program:
        """Move it to a device, or change its memory format; in place."""
        self._module.to(*arguments, **options)
        return self

    def eval(self) -> Program:
        """It was exported in evaluation mode."""
        return self


def load_program(model: Model) -> Program:
    """The program of a model that was opened from a .pt2, vetted before torch reads it.

    Raises `ModelFileError` for a file that holds anything but a plain network.
    """
    import torch

    exported = model.exported
    assert isinstance(exported, Exported)
    assert isinstance(exported.source, Path)
    members, _ = read_archive(exported.source)
    try:
        _vet(members)
        with quiet_exporter():
            module = torch.export.load(io.BytesIO(_packed(members))).module()
    except Exception as error:  # torch's reader has no exception of its own
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(
            f"{exported.file}: cannot be loaded by torch ({type(error).__name__}: {reason}); export it again"
        ) from error
    return Program(module, model.geometry, dict(model.network))


def _take_the_smallest(program: Any) -> None:
    """Let the program take the smallest input as well, at which it was not traced: its operators are the same."""
    from torch.utils._sympy.value_ranges import ValueRanges

    for symbol, bounds in program.range_constraints.items():
        program.range_constraints[symbol] = ValueRanges(max(1, bounds.lower - 1), bounds.upper)


def _unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = archive.infolist()
        if sum(one.file_size for one in found) > _LARGEST:
            raise ValueError("its content is too large")
        names = [one.filename.partition("/")[2] for one in found]
        if len(set(names)) < len(names):
            raise ValueError("two of its files have one name")
        return {name: archive.read(one) for name, one in zip(names, found, strict=True)}


def _packed(members: dict[str, bytes]) -> bytes:
    """An archive that depends on nothing but its content."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(f"{_ROOT}/{name}"), members[name])
    return made.getvalue()


def _vet(members: dict[str, bytes]) -> None:
    """Raise `ModelFileError` unless all of it is of the kind that is written here (see the module's text)."""
    for name in members:
        if name not in {_GRAPH, _EXAMPLE, *_CONFIGS, *_FIXED} and not _TENSOR.fullmatch(name):
            raise ModelFileError(f"a file {name!r}, which no network needs")
    if members.get(_EXAMPLE):
        raise ModelFileError("an example input, which is a pickle")
    for config in _CONFIGS:
        for key, entry in json.loads(members[config])["config"].items():
            folder = config.rpartition("/")[0]
            if entry["use_pickle"] or not _TENSOR.fullmatch(f"{folder}/{entry['path_name']}"):
                raise ModelFileError(f"{key!r} is a pickle or a custom object")
    graph = json.loads(members[_GRAPH])
    if graph.get("guards_code"):
        raise ModelFileError("guards, which are code")
    for key, text in _texts(graph, ""):
        if not _is_harmless(key, text):
            raise ModelFileError(f"{key} {text[:80]!r}, which is not plain arithmetic on tensors")


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with the key it stands under; keys themselves too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield "key", name
            yield from _texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def _is_harmless(key: str, text: str) -> bool:
    if key == "target":
        module, _, name = text.partition(".")
        return bool(_ATEN.fullmatch(text)) or (module == "_operator" and name in _ARITHMETIC)
    if key == "expr_str":
        return _is_arithmetic(text)
    if key in ("in_spec", "out_spec"):
        return not _SPEC.sub("", text)
    return bool(_NAME.fullmatch(text)) or (key == "key" and _is_arithmetic(text))


def _is_arithmetic(text: str) -> bool:
    """Whether an expression consists of integers, named symbols, and calls and operators of arithmetic."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in _CALLS:
                return False
        elif isinstance(node, ast.Name):
            if node.id not in _CALLS and not re.fullmatch(r"[suk]\d+", node.id):
                return False
        elif isinstance(node, ast.Constant):
            plain = isinstance(node.value, bool | int) and abs(node.value) < 2**63
            if not plain and not (isinstance(node.value, str) and re.fullmatch(r"\w+", node.value)):
                return False
        elif not isinstance(node, ast.Expression | ast.keyword | ast.expr_context | ast.BinOp | ast.UnaryOp) and not (
            isinstance(node, ast.Add | ast.Sub | ast.Mult | ast.FloorDiv | ast.Mod | ast.USub)
        ):
            return False
    return True
