"""Engines: what computes logits of a batch of tiles, behind one small seam, and how one is chosen.

An engine is a callable with a declared geometry, numpy in and out; it knows nothing of images. A new
one is a file and a row in ``ENGINES``. Torch is imported when it is needed, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, UsageError
from biounet.geometry import Geometry
from biounet.inference.agreement import Agreement, compare, measure
from biounet.inference.calibration import held_out, is_apart, windows
from biounet.inference.cost import Cost
from biounet.inference.packages import import_or_refuse, is_present
from biounet.model_file import Exported, Model
from biounet.words import counted

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Factory = Callable[..., Any]

LEAST_AGREEMENT = 0.998  # of labels, between int8 and fp32


class Engine(Protocol):
    """A local operator: float32 (N, C, *input) -> float32 logits (N, K, *output).

    ``batches``: whether several small tiles in one call are faster than one by one.
    """

    name: str
    precision: str
    geometry: Geometry
    cost: Cost
    batches: bool

    def __call__(self, batch: Float32) -> Float32:
        """Logits of a batch whose spatial size the geometry admits."""


@dataclass(frozen=True)
class Wanted:
    """What an engine is made for.

    ``calibration``: crops for int8, and to measure lower precisions on; ``crops_of``: which images these are of, in
    words. ``file``: an exported network to load instead of the model's weights. ``threads``: on CPUs, 0 for as many as
    there are cores.
    """

    model: Model
    precision: str = "fp32"
    device: str = "cpu"
    factory: Factory | None = None
    calibration: tuple[Array, ...] = ()
    crops_of: str = "training images"
    file: Path | None = None
    threads: int = 0


@dataclass(frozen=True)
class Kind:
    """One row of the table: what an engine can do, which packages it needs, and how it is made."""

    precisions: tuple[str, ...]
    packages: tuple[str, ...]
    make: Callable[[Wanted], Engine]
    suffixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """An engine ready for use. ``agreement`` with fp32, of torch where it can be had; None for fp32 torch itself, and
    where there is nothing to compare with. ``notes``: what was decided and why, a line each."""

    engine: Engine
    agreement: Agreement | None = None
    notes: tuple[str, ...] = field(default=())


def _make_torch(wanted: Wanted) -> Engine:
    import_or_refuse("torch", "--engine torch")
    from biounet.inference.torch_engine import TorchEngine, torch_network

    if wanted.model.exported is not None:
        from biounet.inference.torch_program import load_program

        network = load_program(wanted.model)
    else:
        network = torch_network(wanted.model, factory=wanted.factory)
    return TorchEngine(network, device=wanted.device, precision=wanted.precision, threads=wanted.threads)


def _make_onnx(wanted: Wanted) -> Engine:
    from biounet.inference.onnx_engine import OnnxEngine

    source, network, threads = _source(wanted), wanted.model.network, wanted.threads
    return _out_of_its_frame(
        wanted, lambda geometry: OnnxEngine(source, geometry, description=network, threads=threads)
    )


def _make_openvino(wanted: Wanted) -> Engine:
    from biounet.inference.openvino_engine import OpenVinoEngine

    source, precision, network = _source(wanted), wanted.precision, wanted.model.network

    def make(geometry: Geometry) -> Engine:
        ready = source
        if precision == "int8":
            from biounet.inference.quantize import quantised

            ready = quantised(source, geometry, wanted.calibration)
        return OpenVinoEngine(ready, geometry, precision=precision, description=network, threads=wanted.threads)

    return _out_of_its_frame(wanted, make)


def _out_of_its_frame(wanted: Wanted, make: Callable[[Geometry], Engine]) -> Engine:
    """The engine of a network, which a package may hold in a frame."""
    geometry, exported = wanted.model.geometry, wanted.model.exported
    if exported is None or not exported.framed or wanted.file is not None:
        return make(geometry)
    from biounet.inference.frames import Framed, outer_geometry

    return Framed(make(outer_geometry(geometry)), geometry)


# "auto" takes the first row that can be had: on CPUs that is the order of speed (benchmarks/engines.py)
ENGINES: dict[str, Kind] = {
    "openvino": Kind(("fp32", "bf16", "int8"), ("openvino", "onnx"), _make_openvino, (".xml", ".onnx")),
    "onnx": Kind(("fp32",), ("onnxruntime", "onnx"), _make_onnx, (".onnx",)),
    "torch": Kind(("fp32", "bf16"), ("torch",), _make_torch, (".pt2",)),
}
PRECISIONS = ("fp32", "bf16", "int8")


def make_engine(
    model: Model,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    factory: Factory | None = None,
) -> Engine:
    """The engine of this name for a model: that of `choose_engine`."""
    return choose_engine(model, engine=engine, device=device, precision=precision, factory=factory).engine


def choose_engine(
    model: Model,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    factory: Factory | None = None,
    calibration: Sequence[Array] | None = None,
    least_agreement: float = LEAST_AGREEMENT,
    threads: int = 0,
) -> Choice:
    """Make an engine and measure how far it is from fp32.

    ``engine``: a row of `ENGINES`, the path of an exported ``.onnx`` or ``.xml``, or "auto": the
    first row that is installed, takes the precision, reads the form of the model and is exact.
    ``calibration``: normalised crops (C, *spatial) for int8 instead of the model's own. ``threads``: on CPUs, 0 for as
    many as there are cores; for torch they are those of the whole process. An fp32 engine
    must reproduce the model's golden sample to `agreement.EXACT`, and so must the fp32 of a file that is to be computed
    in another precision; int8 must give the same label at ``least_agreement`` of the pixels of a sample that it was not
    calibrated on, where there is one. Raises `UsageError` otherwise, in one line.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision!r} is not known; choose {', '.join(PRECISIONS)}")
    crops = tuple(model.calibration if calibration is None else calibration)
    crops_of = "training images" if calibration is None else "the images to calibrate on"
    names, file = _candidates(model, engine, precision)
    place = _device(device, names)
    notes: list[str] = []
    for name in names if place == "cpu" else _only_torch(names, place):
        wanted = Wanted(model, precision, place, factory, crops, crops_of, file, threads)
        try:
            if file is not None and precision != "fp32":  # is it this model that is rounded?
                _held(name, replace(wanted, precision="fp32", calibration=()), least_agreement)
            made, agreement = _held(name, wanted, least_agreement)
        except BiounetError as error:
            if engine != "auto" or name == names[-1]:
                raise
            notes.append(f"engine {name} is left out: {error}")
            continue
        if agreement and precision == "int8" and agreement.labels < LEAST_AGREEMENT:
            notes.append(f"int8 is used although labels agree in less than {LEAST_AGREEMENT:.1%}, as asked for")
        return Choice(made, agreement, tuple(notes))
    raise AssertionError(names)


def plain_engine(model: Model, *, device: str = "cpu", factory: Factory | None = None) -> Engine:
    """The engine that shows what a model computes in fp32, compared with nothing: for proofs.

    Torch for a model file; for an exported form the engine it was made for, or another that reads it.
    """
    names = ["torch"] if model.exported is None else _readers(model.exported, "fp32")
    if model.exported is not None and model.exported.suffix == ".onnx":
        names.sort(key=lambda name: name != "onnx")  # ONNX Runtime first
    names = [name for name in names if is_present(ENGINES[name].packages[0])] or names
    return ENGINES[names[0]].make(Wanted(model, device=_device(device, names[:1]), factory=factory))


def _readers(exported: Exported, precision: str) -> list[str]:
    """Names of the engines that read an exported form and take the precision."""
    kinds = ENGINES.items()
    return [name for name, kind in kinds if exported.suffix in kind.suffixes and precision in kind.precisions]


def _candidates(model: Model, engine: str, precision: str) -> tuple[list[str], Path | None]:
    """Names of engines to try, in order, and the exported file to load, if one was named."""
    if model.exported is not None:
        return _candidates_for(model.exported, engine, precision), None
    suffix = Path(engine).suffix.lower()
    if suffix in (".onnx", ".xml"):
        able = [name for name, kind in ENGINES.items() if suffix in kind.suffixes and precision in kind.precisions]
        present = [name for name in able if is_present(ENGINES[name].packages[0])]
        if not able:
            raise UsageError(f"--precision {precision} cannot be computed from {engine}; choose fp32")
        if not Path(engine).is_file():
            raise UsageError(f"--engine {engine}: there is no such file; name an exported .onnx or .xml")
        return (present or able)[:1], Path(engine)
    if engine == "auto":
        able = [name for name, kind in ENGINES.items() if precision in kind.precisions]
        return [name for name in able if all(map(is_present, ENGINES[name].packages))] or able[-1:], None
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine!r} is not known; choose auto, {', '.join(ENGINES)} or an exported file")
    if precision not in ENGINES[engine].precisions:
        able = [name for name, kind in ENGINES.items() if precision in kind.precisions]
        raise UsageError(f"--precision {precision} is not for --engine {engine}; it is for {', '.join(able)}")
    return [engine], None


def _candidates_for(exported: Exported, engine: str, precision: str) -> list[str]:
    able = _readers(exported, precision)
    if not able:
        raise UsageError(f"--precision {precision} cannot be computed from {exported.file.name}; choose fp32")
    if engine == "auto":
        return [name for name in able if is_present(ENGINES[name].packages[0])] or able[-1:]
    if engine not in able:
        raise UsageError(
            f"--engine {engine} does not read {exported.file.name} in {precision}; choose auto, {', '.join(able)}"
        )
    return [engine]


def _device(device: str, names: Sequence[str]) -> str:
    if device == "cpu" or not ((is_present("torch") and "torch" in names) or device != "auto"):
        return "cpu"
    import_or_refuse("torch", f"--device {device}")
    from biounet.inference.torch_engine import pick_device

    return pick_device(device)


def _only_torch(names: Sequence[str], device: str) -> Iterator[str]:
    """Torch is the only engine for other devices than the CPU."""
    if "torch" not in names:
        raise UsageError(
            f"--device {device}: {', '.join(names)} computes on the CPU; take --engine torch for fp32, bf16"
        )
    yield "torch"


def _source(wanted: Wanted) -> Path | bytes:
    """The network as ONNX: the file that was named, the graph of a U-Net, or an export, kept in the cache."""
    if wanted.file is not None:
        return wanted.file
    if wanted.model.exported is not None:
        return wanted.model.exported.source
    from biounet.inference.convert import onnx_of

    return onnx_of(wanted.model, factory=wanted.factory)


def _held(name: str, wanted: Wanted, least: float) -> tuple[Engine, Agreement | None]:
    """An engine, and how far it is from fp32; `UsageError` where that is too far."""
    made = ENGINES[name].make(wanted)
    try:
        agreement = _agreement(made, wanted)
    except Exception as error:  # each runtime has exceptions of its own, and words that say little
        if wanted.file is None:
            raise
        model = wanted.model
        fails = f"it fails on inputs of {counted(len(model.channels), 'channel')} in {model.ndim}D"
        raise _other_network(wanted.file, str(error) if isinstance(error, BiounetError) else fails) from error
    _refuse_inexact(made, agreement, least, wanted.file)
    return made, agreement


def _agreement(made: Engine, wanted: Wanted) -> Agreement | None:
    """fp32 against the golden sample of the model file, which torch computed; lower precisions on crops."""
    model = wanted.model
    if made.name == "torch" and made.precision == "fp32" and model.exported is None:
        return None
    crops = held_out(wanted.calibration)
    if made.precision == "fp32" and model.golden is not None:
        given, expected = model.golden
        return compare([expected], [made(given)], "golden sample")
    if crops and made.precision != "fp32":
        batches, sample = windows(crops, model.geometry), f"{counted(len(crops), 'crop')} of {wanted.crops_of}"
        if made.precision == "int8" and not is_apart(wanted.calibration):
            sample += ", which it was calibrated on too"
    elif model.golden is not None:
        batches, sample = [model.golden[0]], "golden sample, which is noise"
    else:
        size = model.geometry.input_size((16,) * model.ndim)
        noise = np.random.default_rng(0).standard_normal((1, len(model.channels), *size))
        batches, sample = [noise.astype(np.float32)], "noise"
    reference = _reference(made, wanted)
    return None if reference is None else measure(made, reference, batches, sample, f"fp32 {reference.name}")


def _reference(made: Engine, wanted: Wanted) -> Engine | None:
    """fp32 torch; where that cannot be had, fp32 of the same engine, which golden samples hold to torch."""
    model = wanted.model
    known = model.exported is None and (wanted.factory or model.network.get("name") != "foreign")
    plain = replace(wanted, precision="fp32", calibration=())
    if is_present("torch") and known:
        return _make_torch(plain)
    return None if made.precision == "fp32" else ENGINES[made.name].make(plain)


def _refuse_inexact(made: Engine, agreement: Agreement | None, least: float, file: Path | None) -> None:
    if agreement is None:
        return
    if made.precision == "fp32" and not agreement.is_exact and file is not None:
        raise _other_network(file, str(agreement))
    if made.precision == "fp32" and not agreement.is_exact:
        raise UsageError(f"--engine {made.name} does not compute what the model learnt: {agreement}; take torch")
    if made.precision == "int8" and agreement.labels < least:
        raise UsageError(
            f"--precision int8 changes too much: against {agreement.reference}, {agreement}, {least:.3%} is needed; "
            f"take fp32, or lower --least-agreement to use it all the same"
        )


def _other_network(file: Path, how: str) -> UsageError:
    return UsageError(
        f"--engine {file}: does not compute what the model learnt: {how}; is it exported from this model? "
        "Export it again, or take torch"
    )
