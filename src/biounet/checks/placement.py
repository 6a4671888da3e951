"""Masks that lie beside what they are meant to label: shifted, mirrored, turned, or those of other images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.checks.agreement import Floats, Gridded, covariance, explained
from biounet.checks.finding import Finding, Severity, Spot
from biounet.checks.survey import Survey
from biounet.images.likeness import turns

_CLEAR = 0.2  # a placement that explains less of the mask than this is chance
_BETTER = 0.5  # a mask explained where it lies less than half as well as elsewhere is misplaced
_PERHAPS = 0.8


@dataclass(frozen=True)
class _Fit:
    """Share of the mask explained where it lies, at the best shift (in pixels), and at the best turn."""

    here: float
    shifted: float
    shift: tuple[int, ...]
    turned: float
    turn: str


def misplaced_masks(survey: Survey) -> Iterator[Finding]:
    """Shifted, turned and swapped masks, by how well the image explains the mask in each place."""
    fits = [_fit(grid) for grid in survey.grids]
    swapped = dict(_swapped(survey, fits))
    found: list[tuple[str, str, Severity, str, float]] = []
    for at, (example, fit) in enumerate(zip(survey.examples, fits, strict=True)):
        if at in swapped:
            continue
        if fit.turned >= _CLEAR and fit.here <= _BETTER * fit.turned and fit.turned > fit.shifted:
            found.append(("turned", example.name, "error", fit.turn, fit.turned - fit.here))
        elif fit.shifted >= _CLEAR and fit.here <= _PERHAPS * fit.shifted and any(fit.shift):
            severity: Severity = "error" if fit.here <= _BETTER * fit.shifted else "warning"
            how = "moved by " + ", ".join(f"{n} px" for n in fit.shift) + f" ({'ZYX'[-len(fit.shift) :]})"
            found.append(("shifted", example.name, severity, how, fit.shifted - fit.here))
    by_name = {e.name: fit for e, fit in zip(survey.examples, fits, strict=True)}
    for kind, name, severity, how, gain in found:
        yield _finding(survey, kind, severity, name, how, by_name[name], gain, _others(found, kind, how))
    for at, (other, share) in swapped.items():
        yield _of_another(survey, at, other, fits[at].here, share)


def _others(found: Sequence[tuple[str, str, Severity, str, float]], kind: str, how: str) -> int:
    return Counter((k, h) for k, _, _, h, _ in found)[kind, how]


def _finding(
    survey: Survey, kind: str, severity: Severity, name: str, how: str, fit: _Fit, gain: float, alike: int
) -> Finding:
    share = fit.turned if kind == "turned" else fit.shifted
    all_alike = f"; {alike} of {len(survey.examples)} masks are off in the same way" if alike > 1 else ""
    remedy = (
        "undo it in the mask (Fiji: Image > Transform), or export image and mask again from one program"
        if kind == "turned"
        else "move the mask (Fiji: Image > Transform > Translate), or export image and mask again"
    )
    return Finding(
        kind,
        severity,
        survey.mask_file(name),
        f"the image explains {fit.here:.0%} of the mask where it lies, {share:.0%} with the mask {how}{all_alike}",
        "the network would be taught to find objects beside where they are",
        remedy,
        gain,
        (Spot(name),),
    )


def _of_another(survey: Survey, at: int, other: int, here: float, share: float) -> Finding:
    name, match = survey.examples[at].name, survey.examples[other].name
    return Finding(
        "swapped_pairs",
        "error",
        survey.mask_file(name),
        f"{name} explains {here:.0%} of its own mask and {share:.0%} of the mask of {match}",
        "the network would learn the objects of another image",
        f"give each image its own mask: rename {survey.mask_file(match)} to the name of {name}, and so on, "
        "or list the pairs in pairs.csv",
        share - here,
        (Spot(name), Spot(match)),
    )


def _fit(pair: Gridded) -> _Fit:
    share = explained(pair)
    here = _near(share)
    limit = [n // 4 for n in share.shape]
    window = np.roll(share, limit, tuple(range(share.ndim)))[tuple(slice(0, 2 * n + 1) for n in limit)]
    best = np.subtract(np.unravel_index(int(window.argmax()), window.shape), limit)
    shift = tuple(int(n) * pair.step for n in best) if np.abs(best).max() > 1 else (0,) * share.ndim
    turned, turn = 0.0, ""
    if here < _BETTER:  # else no turn can explain enough more
        named = [(_near(explained(pair, mask)), name) for name, mask in turns(pair.mask)]
        turned, turn = max(named, default=(0.0, ""))
    return _Fit(here, float(window.max()), shift, turned, turn)


def _near(share: Floats) -> float:
    """The best of no shift and shifts by one point."""
    axes = tuple(range(share.ndim))
    return float(np.roll(share, (1,) * share.ndim, axes)[(slice(0, 3),) * share.ndim].max())


def _swapped(survey: Survey, fits: Sequence[_Fit]) -> Iterator[tuple[int, tuple[int, float]]]:
    """Images that explain another one's mask far better than their own: position, (position of it, share)."""
    typical = float(np.median([fit.here for fit in fits])) if fits else 0.0
    limit = max(_BETTER * typical, _CLEAR)
    suspects = [at for at, fit in enumerate(fits) if fit.here <= limit and fit.here <= _BETTER * _best(fits)]
    for at in suspects:
        pair = survey.grids[at]
        inverse = np.linalg.inv(covariance(pair.features))
        alike = [b for b in suspects if b != at and survey.grids[b].mask.shape == pair.mask.shape]
        shares = {b: _share(pair, survey.grids[b].mask, inverse) for b in alike}
        other = max(shares, key=shares.__getitem__, default=at)
        # a turn or a shift of its own mask explains as much in misplaced masks, never more than chance here
        own = max(fits[at].here, fits[at].turned, fits[at].shifted)
        if other != at and shares[other] >= _CLEAR and own <= _PERHAPS * shares[other]:
            yield at, (other, shares[other])


def _best(fits: Sequence[_Fit]) -> float:
    return max(max(fit.here, fit.turned, fit.shifted) for fit in fits) if fits else 0.0


def _share(pair: Gridded, mask: Floats, inverse: npt.NDArray[Any]) -> float:
    variance = float((mask * mask).sum())
    if variance < 1e-6 * mask.size:
        return 0.0
    correlations = (pair.features * mask).reshape(len(pair.features), -1).sum(axis=1, dtype=np.float64)
    correlations /= np.sqrt(variance * mask.size)
    return float(correlations @ inverse @ correlations)
