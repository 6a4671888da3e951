"""What a user may set, with the paper's numbers and the two presets; unknown keys are refused.

Settings are plain values. They know nothing of the code that uses them; numeric functions take
plain arguments, never one of these objects.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from biounet.errors import UsageError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Pixels = Annotated[int, Field(ge=1)]


class NetworkSettings(_Section):
    """Size of the network; the defaults are the paper's. `NETWORK_TAKES` tells which network has what.

    A stem is a first convolution with a stride, not in the paper: a stem of 2 shows the network objects at half
    their size, so that it sees large ones whole at a quarter of the work. Labels come at full resolution.
    """

    name: str = "unet"  # unet, fcn8s, fcn16s, fcn32s or patch_cnn
    width: int = Field(64, ge=1, le=1024)  # channels of the first level; of every level of patch_cnn
    depth: int | None = Field(4, ge=0, le=7)  # poolings; null: 4, in volumes by what the margin costs
    pooling: tuple[tuple[int, ...], ...] | None = Field(None, max_length=7)  # per level and axis; null: by pixel shape
    stem: Pixels | tuple[Pixels, ...] | None = 1  # stride of a first convolution, see above; null: by the objects
    batch_norm: bool | None = False  # not in the paper; null: for instances yes, for classes no
    dropout: float = Field(0.5, ge=0, lt=1)  # share of units left out at the end of the contracting path
    window: int = Field(65, ge=9)  # side of the window that patch_cnn sees; odd


class AugmentationSettings(_Section):
    """How samples are varied; the paper: shifts, rotations, deformations, grey value variations.

    Fields and units are those of `samples.augment.Augmentation`.
    """

    elastic_std_px: float | None = Field(10.0, ge=0)  # deviation of the deformation's vectors; null: by size
    elastic_grid: int = Field(3, ge=2)  # vectors a side of the coarse grid of the elastic deformation
    rotation_degrees: float | None = Field(180.0, ge=0, le=180)  # null: little where images have an up and a down
    rotate_in_space: bool | None = None  # volumes: also out of the plane; null: where voxels are cubes
    mirror: bool | None = True  # flips of each axis; null: not where images have a left and a right
    scale: tuple[float, float] = (1.0, 1.0)  # smallest and largest zoom; 2 shows objects twice as large
    shift_px: int = Field(0, ge=0)  # windows lie anywhere in the image; this is how far they overhang
    gamma: float = Field(0.1, ge=0)  # largest change of the exponent of grey values: from 1 / (1 + v) to 1 + v; 0: off
    contrast: float = Field(0.1, ge=0)  # largest change of the factor of grey values, in the same way
    brightness: float = Field(0.1, ge=0)  # the most that is added or taken away, in standard deviations of the image
    noise: float = Field(0.05, ge=0)  # the most Gaussian noise that is added, in standard deviations of the image
    blur_px: float = Field(0.0, ge=0)  # the widest Gaussian blur, as a standard deviation in pixels; 0: off


class LossSettings(_Section):
    """The weighted cross-entropy: w(x) = w_c(x) + w_0 exp(-(d1 + d2)^2 / (2 sigma^2)), and what is added to it."""

    w0: float = Field(10.0, ge=0)  # largest weight in the gap between touching cells; 0: no border weights
    sigma_px: float = Field(5.0, gt=0)  # how far from the cells the border weights reach
    reading: Literal["multiply", "sum"] = "multiply"  # of the formula: multiply is the paper's, sum a misprint of it
    class_balance: bool = True  # w_c by the classes' frequencies; false: w_c = 1
    line_width: int = Field(2, ge=0)  # of the background carved between touching cells, in pixels
    dice: float | None = Field(0.0, ge=0)  # times the Dice loss, not in the paper; null: 1 for instances, else 0


class TrainingSettings(_Section):
    """Optimiser, schedule, tile and how often what is written; the defaults are the paper's."""

    optimizer: Literal["sgd", "adamw"] = "sgd"  # gradient descent with momentum, or AdamW
    learning_rate: float = Field(1e-3, gt=0)  # the largest of the run
    momentum: float = Field(0.99, ge=0, lt=1)  # of sgd; of adamw its first beta
    weight_decay: float = Field(0.0, ge=0)  # of convolution kernels; biases have none
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate; cosine: falls to 0 at the end
    warmup: float = Field(0.0, ge=0, lt=1)  # share of the steps in which the learning rate rises from 0
    clip: float = Field(0.0, ge=0)  # largest norm of the gradient; 0: not clipped
    batch_size: int = Field(1, ge=1)  # samples of a step
    tile: Pixels | tuple[Pixels, ...] | None = 388  # side of the output, to the nearest admissible; null: by the stem
    balanced: bool = False  # samples lie on each class equally often, instead of anywhere; for small tiles
    batch_statistics_until: float = Field(1.0, ge=0, le=1)  # share of the steps; then batch norm keeps those it has
    averaging: float = Field(0.0, ge=0, lt=1)  # share of the steps that the weights are averaged over
    weight_standardisation: bool | None = False  # kernels of mean 0 and a learnt norm; null: without batch norm
    precision: Literal["auto", "fp32", "bf16"] = "fp32"  # auto: bf16 where it is the faster one
    validations: int = Field(12, ge=1)  # how often the held-back images are scored in a run
    patience: int | None = Field(None, ge=1)  # of them without gain that end it; null: cosine never, constant half
    state_seconds: float = Field(60.0, gt=0)  # how often the state is written
    workers: int = Field(0, ge=0)  # processes that make samples; 0: one thread beside the training


class DataSettings(_Section):
    """How images and annotations are read; what is null is inferred and said.

    ``normalisation`` brings intensities to one scale, per channel, by statistics of whole images, never of a tile.
    ``image``: less the mean of the image, divided by its standard deviation, so that dim and bright images look
    alike. ``percentile``: its percentiles 1 and 99.8 become 0 and 1; for a few very bright spots. ``dataset``: mean
    and standard deviation of the training images for all, where absolute intensity tells something, as in CT.
    """

    task: Literal["instances", "classes"] | None = None  # what the values of masks mean; null: inferred
    ndim: Literal[2, 3] | None = None  # images or volumes; null: inferred from each file
    channels: tuple[int | str, ...] | None = None  # names, or positions from 0; null: all
    unlabelled: Literal["background", "unknown"] = "background"  # what value 0 of a mask is
    object_classes: bool = True  # false: all objects are of one class, whatever their names
    colours: tuple[str, ...] | None = None  # of RGB masks, as 000000=background,ff0000=nerve
    normalisation: Literal["image", "percentile", "dataset"] = "image"  # statistics: see above
    validation: str | None = None  # held-back images, as --validation; null: chosen by share
    validation_share: float = Field(0.2, gt=0, lt=1)  # of the images held back where validation names none

    @field_validator("channels", "colours", mode="before")
    @classmethod
    def _at_commas(cls, value: Any) -> Any:
        value = str(value) if isinstance(value, int) else value  # one position
        return value.split(",") if isinstance(value, str) else value


class Settings(_Section):
    """Everything that can be set; ``preset`` names where the defaults came from."""

    preset: Literal["paper", "standard"] = "paper"
    network: NetworkSettings = NetworkSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    data: DataSettings = DataSettings()


def paper() -> Settings:
    """The paper's network and training. The learning rate, which it does not give, is ours."""
    return Settings()


def standard() -> Settings:
    """A smaller network and a modern optimiser: trains well on two CPU cores in minutes."""
    return Settings(
        preset="standard",
        network=NetworkSettings(width=16, depth=None, dropout=0.1, stem=None, batch_norm=None),
        augmentation=AugmentationSettings(
            elastic_std_px=None,
            rotation_degrees=None,
            mirror=None,
            scale=(0.85, 1.15),
            brightness=0.2,
            contrast=0.25,
            gamma=0.25,
            noise=0.1,
        ),
        loss=LossSettings(dice=None),
        training=TrainingSettings(
            optimizer="adamw",
            learning_rate=1e-3,
            momentum=0.9,
            weight_decay=1e-2,
            schedule="cosine",
            warmup=0.03,
            clip=1.0,
            batch_size=1,
            tile=None,
            weight_standardisation=None,
            averaging=0.1,
            batch_statistics_until=0.5,
            precision="auto",
        ),
    )


PRESETS = {"paper": paper, "standard": standard}

# What networks other than the U-Net are trained with, over either preset. A patch classifier learns from
# windows, one pixel of output each, of either class in equal shares (Ciresan et al. 2012, section 2); 64 a
# step keep two cores busy, and the gradient of one pixel would be noise. It has 48 maps a level, as there.
FOR_NETWORK: dict[str, dict[str, Any]] = {
    "patch_cnn": {
        "network.width": 48,
        "network.dropout": 0.0,
        "training.tile": 1,
        "training.batch_size": 64,
        "training.balanced": True,
    },
}

_OF_FCN = ("width", "batch_norm", "dropout")
NETWORK_TAKES: dict[str, tuple[str, ...]] = {
    "unet": ("width", "depth", "pooling", "stem", "batch_norm", "dropout"),
    "fcn8s": _OF_FCN,
    "fcn16s": _OF_FCN,
    "fcn32s": _OF_FCN,
    "patch_cnn": ("width", "window", "dropout"),
}


def read_settings(
    preset: str = "standard",
    *,
    file: Path | None = None,
    overrides: Iterable[str] = (),
    values: Mapping[str, Any] | None = None,
    left_out: Container[str] = (),
) -> Settings:
    """A preset, then a TOML or JSON file over it, then ``key=value`` texts, then ``values`` over that.

    ``values`` maps dotted keys to values; None leaves a setting as it is. ``left_out``: dotted keys that are not
    taken, whoever gives them. Where these choose a network of `FOR_NETWORK`, its values come right after the preset.

    Raises `UsageError` naming the key, its value and what is allowed.
    """
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset!r} is not known; choose {' or '.join(PRESETS)}")
    settings = dict(dotted(PRESETS[preset]().model_dump(exclude={"preset"})))
    given: dict[str, Any] = {}
    if file is not None:
        _merge(given, _read_file(file), settings, f"--config {file}")
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r} has no value; write --set key=value, as training.batch_size=2")
        _merge(given, {key.strip(): _parsed(value.strip())}, settings, "--set")
    _merge(given, {key: value for key, value in (values or {}).items() if value is not None}, settings, "option")
    given = {key: value for key, value in given.items() if key not in left_out}
    _check_network(given)
    settings |= FOR_NETWORK.get(given.get("network.name", ""), {}) | given
    nested: dict[str, Any] = {"preset": preset}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        nested.setdefault(section, {})[key] = value
    return check_settings(nested)


def check_settings(values: Mapping[str, Any]) -> Settings:
    """`Settings` of nested plain values, as stored in a model file; `UsageError` names what is wrong."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        # behind the name stand positions, and kinds of value that it might be
        fields = [str(part) for at, part in enumerate(first["loc"]) if at < 2 or isinstance(part, int)]
        tuples = any(found["type"] == "tuple_type" for found in error.errors())
        form = "; write several values as [1, 2]" if tuples and not isinstance(first.get("input"), list) else ""
        raise UsageError(f"setting {'.'.join(fields)} (={first.get('input')!r}): {first['msg']}{form}") from error


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested groups, each under a name like ``training.tile``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _merge(given: dict[str, Any], new: Mapping[str, Any], known: Mapping[str, Any], origin: str) -> None:
    for name, value in dotted(new):
        if name not in known:
            raise UsageError(f"{origin}: {_unknown(name, known)}")
        given[name] = value


def _check_network(given: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a network that there is not, and for settings that the chosen one has not."""
    network = given.get("network.name", "unet")
    if network not in NETWORK_TAKES:
        raise UsageError(f"network {network!r} is not known; choose {', '.join(NETWORK_TAKES)}")
    for name in given:
        section, _, key = name.partition(".")
        if section == "network" and key not in ("name", *NETWORK_TAKES[network]):
            have = [other for other, keys in NETWORK_TAKES.items() if key in keys]
            raise UsageError(f"setting {name} means nothing for network {network}; it is one of {', '.join(have)}")


def _unknown(name: str, settings: Mapping[str, Any]) -> str:
    """What is wrong with a key that is none, and what was probably meant."""
    if name == "preset":
        return "the preset is chosen with --preset, not here"
    if group := [key for key in settings if key.startswith(f"{name}.")]:
        return f"{name} is a group; set one of {', '.join(group)}"
    last = {key.rpartition(".")[2]: key for key in settings}
    wanted = name.rpartition(".")[2]
    close = difflib.get_close_matches(name, settings, 1)
    close = close or [last[key] for key in difflib.get_close_matches(wanted, last, 1)]
    section = name.partition(".")[0] + "."
    known = [key for key in settings if key.startswith(section)] or sorted({key.partition(".")[0] for key in settings})
    hint = f"did you mean {close[0]}? " if close else ""
    return f"setting {name!r} is not known; {hint}known: {', '.join(known)}"


def _parsed(text: str) -> Any:
    """A value written on the command line: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        found = json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"--config {file}: cannot be read as TOML or JSON ({error})") from error
    if not isinstance(found, dict):
        raise UsageError(f"--config {file}: must hold a table of settings, not a {type(found).__name__}")
    return found
