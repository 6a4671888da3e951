"""Writes docs/reference/python.md and settings.md from the code: python docs/make_reference.py

A test holds the pages equal to what this makes, so a changed signature or docstring needs a new run.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, is_typeddict

import biounet
from biounet import settings
from biounet.errors import BiounetError

REFERENCE = Path(__file__).resolve().parent / "reference"

PUBLIC = {
    "The commands as functions": ("train", "load", "predict", "evaluate", "check", "export", "ensemble"),
    "Network and geometry": ("UNet", "unet_geometry", "Geometry", "AxisGeometry", "verify_geometry"),
    "Tiles": ("predict_tiled",),
    "Samples and loss": (
        "elastic_deformation",
        "border_weights",
        "class_weights",
        "weight_map",
        "weighted_cross_entropy",
    ),
    "Scores": (
        "pixel_error",
        "dice",
        "iou",
        "rand_error",
        "v_rand",
        "v_info",
        "warping_error",
        "seg",
        "det",
        "ap",
        "f1",
        "pq",
    ),
    "Errors": ("BiounetError", "UsageError", "DataError", "ModelFileError", "PartialError"),
    "Modules": ("geometry", "settings", "errors"),
}
RETURNED = (
    "model_file.Model",
    "inference.predict.Prediction",
    "prediction.options.Options",
    "results.request.Done",
    "checks.model.ModelCheck",
    "checks.data.DataCheck",
    "workflows.export_model.Exporting",
    "inference.proof.Proof",
    "evaluation.rand.Parts",
)
EXAMPLE = """# settings.toml: biounet train MY_FOLDER --out my.safetensors --config settings.toml
[network]
width = 32
depth = 4

[augmentation]
scale = [0.8, 1.25]
mirror = false

[training]
learning_rate = 5e-4

[data]
normalisation = "percentile"
"""
IN_EXAMPLES = (
    "settings.read_settings",
    "samples.synthetic.synthetic_cells",
    "labels.targets.carve",
    "labels.targets.class_targets",
    "labels.instances.instances_from_probabilities",
    "geometry.mirrored",
    "geometry.frame_of",
    "inference.tiling.plan_tiles",
    "inference.tiling.TilePlan",
)
_HAND = "<!-- Written by docs/make_reference.py: change the docstrings, then run `make docs`. -->"
_WIDTH = 100


def pages() -> dict[Path, str]:
    """The generated pages: path to text."""
    return {REFERENCE / "python.md": python_page(), REFERENCE / "settings.md": settings_page()}


def python_page() -> str:
    """Every name of ``biounet.__all__`` with signature and docstring."""
    listed = [name for names in PUBLIC.values() for name in names]
    if sorted(listed) != biounet.__all__:
        raise ValueError(f"PUBLIC and biounet.__all__ differ: {sorted(set(listed) ^ set(biounet.__all__))}")
    parts = [
        "# Python reference",
        _HAND,
        "Everything here is imported as `from biounet import NAME`. Importing `biounet` imports no torch; each\n"
        "name loads what it needs when it is first used. Arrays are `(C,)(Z)YX`; labels are int32, 0 background,\n"
        "-1 unknown. A name such as `inference.predict.Prediction` lies in `biounet.inference.predict`.",
    ]
    for title, names in PUBLIC.items():
        parts.append(f"## {title}")
        for name in names:
            parts += _entry(name, getattr(biounet, name))
    for title, paths in (("What some of them return", RETURNED), ("Others that the examples use", IN_EXAMPLES)):
        parts.append(f"## {title}")
        for path in paths:
            module, name = path.rsplit(".", 1)
            parts += _entry(f"biounet.{path}", getattr(importlib.import_module(f"biounet.{module}"), name))
    return "\n\n".join(parts) + "\n"


def settings_page() -> str:
    """Every setting with its type, its value in both presets, and its comment."""
    parts = [
        "# Settings",
        _HAND,
        "Set them with `--set KEY=VALUE`, or in a TOML or JSON file given by `--config`; `--set` wins over the file,\n"
        "the file over the preset. Unknown keys are refused. `null` stands for none: what is null is\n"
        "decided from the data and printed. In TOML leave such a key out.",
        f"```toml\n{EXAMPLE}```",
    ]
    presets = {name: make() for name, make in settings.PRESETS.items()}
    for section in settings.Settings.model_fields:
        group = getattr(presets["paper"], section)
        if not hasattr(type(group), "model_fields"):
            continue
        parts += [f"## {section}", inspect.getdoc(type(group)) or "", _table(section, group, presets)]
    return "\n\n".join(parts) + "\n"


def _table(section: str, group: Any, presets: dict[str, Any]) -> str:
    source = inspect.getsource(type(group))
    comments = dict(re.findall(r"^    (\w+):[^#\n]*#\s*(.*)$", source, re.MULTILINE))
    types = {
        line.target.id: ast.unparse(line.annotation)
        for line in ast.walk(ast.parse(source))
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }
    rows = ["| key | type | " + " | ".join(presets) + " | |", "|---|---|" + "---|" * len(presets) + "---|"]
    for name in type(group).model_fields:
        values = [getattr(getattr(preset, section), name) for preset in presets.values()]
        cells = [f"`{section}.{name}`", f"`{types[name]}`".replace("|", "\\|")]
        rows.append("| " + " | ".join([*cells, *map(_shown, values), comments.get(name, "")]) + " |")
    return "\n".join(rows)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value) if isinstance(value, tuple) else value)


def _entry(name: str, value: Any) -> list[str]:
    """Heading, and signature, docstring and members as ``help`` would show them."""
    parts = [] if inspect.ismodule(value) else [_headline(name.rsplit(".", 1)[-1], value)]
    parts.append(_indented(inspect.getdoc(value)))
    members = vars(value).items() if inspect.isclass(value) else ()
    parts += [text for key, member in members if (text := _member(key, member))]
    body = "\n\n".join(parts)
    return [f"### {name}", f"```text\n{body}\n```"]


def _headline(name: str, value: Any) -> str:
    if inspect.isclass(value) and issubclass(value, BiounetError):
        bases = ", ".join(base.__name__ for base in value.__bases__)
        return f"class {name}({bases})    exit code {value.exit_code}"
    if is_typeddict(value):
        keys = (f"    {key}: {hint.__forward_arg__}" for key, hint in value.__annotations__.items())
        return "\n".join([f"class {name}(TypedDict)", *keys])
    return _signature(name, value)


def _member(name: str, member: Any) -> str:
    """A method or property with its docstring, "" for anything else and what is private."""
    member = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    is_property = isinstance(member, property)
    if name.startswith("_") or not (is_property or inspect.isfunction(member)) or not inspect.getdoc(member):
        return ""
    return _indented(f"{name if is_property else _signature(name, member)}\n{_indented(inspect.getdoc(member))}")


def _indented(text: str | None) -> str:
    return "\n".join(f"    {line}".rstrip() for line in (text or "").splitlines())


def _signature(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    parts = list(_parameters(signature))
    result = signature.return_annotation
    arrow = "" if result in (inspect.Signature.empty, None, "None") else f" -> {result}"
    line = f"{name}({', '.join(parts)}){arrow}"
    return line if len(line) <= _WIDTH else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){arrow}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    """Parameters as written, without ``self``, and a bare * before the first that is keyword-only."""
    starred = False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls", "_cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        annotation = getattr(parameter.annotation, "__forward_arg__", parameter.annotation)
        star = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        yield f"{star}{parameter.name}: {annotation}{default}"


def _default(value: Any) -> str:
    return "..." if type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS" else repr(value)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
