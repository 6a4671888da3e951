"""The runs of `matrix.py`: what each learns from, holds back and is given; the folders that some of them need."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from biounet.datasets.annotation import load_labels
from biounet.datasets.layouts import find_dataset
from biounet.datasets.selection import select
from biounet.images.writing import write_labels

U373, HELA, U2OS, MIXED, EM = "PhC-C2DH-U373", "DIC-C2DH-HeLa", "dsb2018_u2os", "dsb2018_mixed", "isbi2012_em"
_GREY, _COMPLETE = "mixed_grey", "hela_as_complete"  # made from DATA, in RESULTS/data
_FEW, _LAST_OF_U2OS = "u2os_first_", "images 32-39"  # the first so many images and those that are held back
_ALONE = {"u2os_12_alone": 12, "hela_6_alone": 6}  # the first so many images and no others
FEW_IMAGES = (2, 4, 8, 16, 32)
_LAST_OF_EACH_KIND, _ALL_BUT_THE_FIRST = "the last fifth of each kind", "all but the first"


@dataclass(frozen=True)
class Run:
    """One training with its scores; ``time`` are the options that limit it, as ("--steps", "800").

    ``held_back``: what --validation names; empty leaves it to biounet. ``options``: others of `biounet train`.
    ``scored``: the images scored, where not all that are held back (a slice beside the training ones is
    held back as a guard). ``truth``: the data scored against, where not those learnt from. ``like``: no
    training; the model of that run, without its splitting of touching components. ``rival``: `rival.py` with this
    learning rate instead of biounet; "best" is the rate that scored best with seed 0, of those that are done.
    """

    name: str
    data: str
    held_back: str
    time: tuple[str, ...]
    settings: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    seed: int = 0
    scored: str = ""
    truth: str = ""
    like: str = ""
    border_px: int = 0
    preset: str = "standard"
    rival: str = ""


QUARTER = ("--budget", "15min")
TEN_MINUTES = ("--budget", "10min")
FIVE_MINUTES, TWENTY_MINUTES = ("--budget", "5min"), ("--budget", "20min")
RATES = ("0.0003", "0.001", "0.003")  # of the rival
SHORT = ("--steps", "800")
_EM_HELD_BACK, _EM_SCORED = "slices 17-23", "slices 18-23"  # six to score, and one between as a guard
_ABLATED = {
    "full": (),
    "no-border-weights": ("loss.w0=0",),
    "no-line": ("loss.line_width=0",),
    "no-elastic": ("augmentation.elastic_std_px=0",),
}
_SPLITS = {
    U373: "slices 10-14",
    HELA: "slices 6-8",
    U2OS: "images 30-39",
    _GREY: _LAST_OF_EACH_KIND,
}


def runs() -> list[Run]:
    """All runs, by group/name."""
    short = {U373: "u373", HELA: "hela", U2OS: "u2os", _GREY: "mixed"}
    cells = [Run(f"cells/{short[data]}-seed0", data, held_back, QUARTER) for data, held_back in _SPLITS.items()]
    cells += [replace(cells[2], name=f"cells/u2os-seed{seed}", seed=seed) for seed in (1, 2)]
    ablation = []
    for data in (HELA, U2OS):
        for seed in (0, 1, 2):
            for what, settings in _ABLATED.items():
                name = f"ablation/{short[data]}-{what}-seed{seed}"
                few = ("training.validations=4", *settings)
                ablation.append(Run(name, data, _SPLITS[data], SHORT, few, seed=seed))
            full = f"ablation/{short[data]}-full-seed{seed}"
            ablation.append(replace(ablation[-4], name=full.replace("full", "no-splitting"), like=full))
    ignore = []
    for what, held_back in (("t067", "slices 0-7"), ("t054+t067", "slices 0-6")):
        one = Run(f"ignore/{what}-unknown", HELA, held_back, SHORT, ("training.validations=4",))
        ignore += [one, replace(one, name=f"ignore/{what}-as-background", data=_COMPLETE, truth=HELA)]
    replaced, window = [], []
    for data, held, scored in ((EM, _EM_HELD_BACK, _EM_SCORED), (U2OS, _SPLITS[U2OS], "")):
        for network in ("unet", "fcn8s", "fcn16s", "fcn32s", "patch_cnn"):
            name = f"replaced/{short.get(data, 'em')}-{network}"
            settings = ("training.validations=3", f"network.name={network}")  # whole images by windows take long
            border = 5 if data == EM else 0
            replaced.append(Run(name, data, held, TEN_MINUTES, settings, scored=scored, border_px=border))
    for side in (33, 95):  # beside replaced/em-patch_cnn, whose windows have 65
        settings = ("training.validations=3", "network.name=patch_cnn", f"network.window={side}")
        one = Run(f"window/em-{side}", EM, _EM_HELD_BACK, TEN_MINUTES, settings, scored=_EM_SCORED, border_px=5)
        window.append(one)
    return [*cells, *ablation, *ignore, *replaced, *window, *recipes(), *curve(), *folds()]


def curve() -> list[Run]:
    """The `standard` recipe for as long with fewer images of U2OS, the same ones held back."""
    one = Run("", "", _ALL_BUT_THE_FIRST, FIVE_MINUTES, ("training.validations=4",), truth=U2OS)
    return [replace(one, name=f"curve/u2os-{count}", data=f"{_FEW}{count}") for count in FEW_IMAGES]


def folds() -> list[Run]:
    """A few images with one split, with folds, and with one network on all after the folds; others are scored."""
    kinds: dict[str, tuple[str, ...]] = {
        "one-split": (),
        "ensemble": ("--folds", "3"),
        "refit": ("--folds", "3", "--refit"),
    }
    found = []
    for name, truth, unseen in (("hela_6_alone", HELA, _SPLITS[HELA]), ("u2os_12_alone", U2OS, _LAST_OF_U2OS)):
        for what, options in kinds.items():
            few = ("training.validations=4",)
            one = Run(
                f"folds/{name.partition('_')[0]}-{what}", name, "", SHORT, few, options, scored=unseen, truth=truth
            )
            found.append(one)
    return found


def recipes() -> list[Run]:
    """The recipes and MONAI's BasicUNet at equal time on every 2D set, on two of them with three seeds."""
    sets = {
        "em": (EM, _EM_HELD_BACK, _EM_SCORED),
        **{name: (data, _SPLITS[data], "") for name, data in (("hela", HELA), ("u2os", U2OS), ("u373", U373))},
        "mixed": (MIXED, _LAST_OF_EACH_KIND, ""),
    }
    few = ("training.validations=4",)
    found = []
    for name, (data, held, scored) in sets.items():
        for seed in (0, 1, 2) if name in ("hela", "u2os") else (0,):
            one = Run(f"matrix/{name}-standard-seed{seed}", data, held, FIVE_MINUTES, few, seed=seed, scored=scored)
            small = ("network.width=16", "training.tile=null", *few)
            found += [
                one,
                replace(one, name=f"matrix/{name}-paper-seed{seed}", preset="paper"),
                replace(one, name=f"matrix/{name}-paper_small-seed{seed}", preset="paper", settings=small),
            ]
            for rate in RATES if seed == 0 else ("best",):
                found.append(replace(one, name=f"matrix/{name}-basicunet_{rate}-seed{seed}", rival=rate))
        found.append(Run(f"longer/{name}-standard", data, held, TWENTY_MINUTES, (), scored=scored))
    return found


def prepared(name: str, root: Path, results: Path) -> Path:
    """The folder of a data set, made first where it is not one of DATA itself."""
    folder = results / "data" / name
    if name == _GREY:
        _copy(sorted((root / MIXED).glob("*/fluo*")), root / MIXED, folder)
    elif name.startswith(_FEW):
        count, held = int(name.removeprefix(_FEW)), _first_held_back(root)
        for kind in ("images", "masks"):
            files = sorted((root / U2OS / kind).iterdir())
            _copy([*files[: min(count, held)], *files[held:]], root / U2OS, folder)
    elif name in _ALONE:
        data = root / (U2OS if name.startswith("u2os") else HELA)
        for item in find_dataset(data).items[: _ALONE[name]]:
            _copy([item.image.path, item.labels.path], data, folder)
    elif name == _COMPLETE:  # what the gold masks do not show is taken for background
        for gold in sorted((root / HELA / "01_GT" / "SEG").glob("man_seg*.tif")):
            frame = "t" + gold.stem.removeprefix("man_seg")
            (folder / "images").mkdir(parents=True, exist_ok=True)
            shutil.copy(root / HELA / "01" / f"{frame}.tif", folder / "images")
            write_labels(folder / "masks" / f"{frame}.tif", load_labels(gold)[0])
    else:
        return root / name
    return folder


def _copy(files: Iterable[Path], root: Path, folder: Path) -> None:
    """Copies in the same places below ``folder`` as below ``root``."""
    for file in files:
        target = folder / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)


def _first_held_back(root: Path) -> int:
    """Position of the first image of U2OS that is held back."""
    names = [item.name for item in find_dataset(root / U2OS).items]
    return min(select(names, _LAST_OF_U2OS, "--validation"))


def held_back(run: Run, data: Path) -> str:
    """What --validation names; empty without it."""
    if run.held_back == _ALL_BUT_THE_FIRST:
        names = [item.name for item in find_dataset(data).items]
        return ",".join(names[int(run.data.removeprefix(_FEW)) :])
    if run.held_back != _LAST_OF_EACH_KIND:
        return run.held_back
    kinds: dict[str, list[str]] = {}
    for item in find_dataset(data).items:
        kinds.setdefault(item.name.partition("_")[0], []).append(item.name)
    return ",".join(name for names in kinds.values() for name in names[-max(1, round(len(names) / 5)) :])
