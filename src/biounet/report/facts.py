"""Facts of a model file in words that several pages share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biounet.words import counted


def held_back_in_words(names: Sequence[str]) -> str:
    """How many were held back, by the names of their images; blocks of one image say less than as many images would."""
    whole = len(set(names))
    if whole == len(names):
        return counted(whole, "held-back image")
    return f"{counted(len(names), 'held-back block')} of {counted(whole, 'image')}"


def seeds_in_words(training: Mapping[str, Any]) -> str:
    """The seed, or those of the folds, which have one each, and of the network of all images, which has the next."""
    first, folds = training.get("seed"), training.get("folds")
    if first is None or folds is None:
        return f"seed {first}"
    of_folds = f"{first} to {first + folds - 1}"
    return f"seed {first + folds}, of the folds {of_folds}" if training.get("refit") else f"seeds {of_folds}"
