"""Single objects: in pieces, merged, specks, or too large for the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import edt
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.checks.finding import Finding, Severity, Spot
from biounet.checks.survey import Labels, Survey
from biounet.labels.components import components
from biounet.planning.choices import choose
from biounet.planning.fingerprint import fingerprint
from biounet.planning.network_choices import chosen_geometry, largest_of
from biounet.settings import Settings, standard
from biounet.words import counted

_PIECE = 0.2  # of the largest piece of an object: smaller pieces are specks
_APART = 0.25  # of the median diameter: pieces farther apart are distant
_MANY = 4  # as many pieces under one id are many objects
_MERGED_PX = 1.5  # times the median size: an object may be two
_NECK = 0.65  # of the greatest depth: where a neck is thinner, an object falls apart into parts
_PART = 0.4  # of the median size, that each part must have
_SPECK = 0.02  # of the median size
_SMALLEST_PX = 4

Box = tuple[slice, ...]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Object:
    """One id in one image: its box and its mask in it; sizes and boxes of its pieces, the largest first."""

    name: str
    id: int
    box: Box
    mask: Mask

    def pieces(self) -> tuple[Labels, npt.NDArray[np.int64]]:
        """Pieces numbered in the box, and their sizes by number less one."""
        found = components(self.mask)
        return found, np.bincount(found.ravel())[1:]


def _objects(survey: Survey) -> Iterator[tuple[str, list[_Object]]]:
    """Objects of every image, where they are instances."""
    if not survey.is_instances:
        return
    for example, labels in zip(survey.examples, survey.encoded, strict=True):
        yield example.name, list(_in_image(example.name, labels))


def _in_image(name: str, labels: Labels) -> Iterator[_Object]:
    ids, numbered = np.unique(labels, return_inverse=True)
    numbered = numbered.reshape(labels.shape) - int(np.searchsorted(ids, 0, side="right")) + 1
    positive = ids[ids > 0]
    for number, box in enumerate(ndimage.find_objects(np.maximum(numbered, 0)), start=1):
        if box is not None:
            yield _Object(name, int(positive[number - 1]), box, numbered[box] == number)


def distant_pieces(survey: Survey) -> Iterator[Finding]:
    """One id on several pieces that lie apart; and images in which one value stands for many objects."""
    for name, objects in _objects(survey):
        apart = [(o, gap, count) for o in objects for gap, count in [_gap(o)] if gap > _allowed(survey)]
        if not apart:
            continue
        worst, gap, count = max(apart, key=lambda entry: entry[1])
        if count >= _MANY and len(objects) <= 2:
            yield _one_value(survey, worst, count)
            continue
        yield Finding(
            "distant_pieces",
            "warning",
            survey.mask_file(name),
            f"{len(apart)} of {len(objects)} ids lie on several pieces apart, as id {worst.id} on {count} pieces "
            f"{gap:.0f} px from each other",
            "an id is one object, so the gap is not drawn as border, and scores count the pieces as one",
            "give each piece an id of its own (napari: fill with the next label; Fiji: MorphoLibJ > Connected "
            "Components), unless one object truly is in two",
            len(apart),
            (Spot(name, worst.box),),
        )


def _allowed(survey: Survey) -> float:
    return max(3.0, _APART * survey.diameter_px)


def _gap(entry: _Object) -> tuple[float, int]:
    """The largest distance from a large piece to the nearest other one, and how many large pieces there are."""
    pieces, sizes = entry.pieces()
    large = [i + 1 for i, size in enumerate(sizes) if size >= max(_PIECE * sizes.max(), _SMALLEST_PX)]
    if len(large) < 2:
        return 0.0, len(large)
    gaps = []
    for number in large[:_MANY]:
        others = np.isin(pieces, [n for n in large if n != number])
        distance = edt.edt(np.ascontiguousarray(~others), black_border=False)
        gaps.append(float(distance[pieces == number].min()))
    return max(gaps), len(large)


def _one_value(survey: Survey, entry: _Object, count: int) -> Finding:
    return Finding(
        "merged_objects",
        "error",
        survey.mask_file(entry.name),
        f"value {entry.id} lies on {count} separate pieces, while masks of the other images have an id for each object",
        "all pieces of one value are taken as one object",
        "give each piece an id of its own (Fiji: MorphoLibJ > Connected Components), or read all masks so with "
        "--task instances if all of them are 0 and 255",
        count,
        (Spot(entry.name),),
    )


def merged_objects(survey: Survey) -> Iterator[Finding]:
    """Ids that are larger than usual and fall apart at a thin neck: two objects that touch under one id."""
    for name, objects in _objects(survey):
        found = [o for o in objects if o.mask.sum() >= _MERGED_PX * survey.median_px and _falls_apart(survey, o)]
        if not found:
            continue
        severity: Severity = "warning" if len(found) >= max(2, 0.02 * len(objects)) else "hint"
        largest = max(found, key=lambda o: int(o.mask.sum()))
        times = largest.mask.sum() / survey.median_px
        yield Finding(
            "merged_objects",
            severity,
            survey.mask_file(name),
            f"{len(found)} of {len(objects)} objects look like several that touch, as id {largest.id}: "
            f"{times:.1f} times the median size with a thin neck",
            "the network learns not to part objects that touch",
            "look at them; give each object an id of its own (napari: paint the second with a new label)",
            len(found),
            tuple(Spot(name, o.box) for o in found[:2]),
        )


def _falls_apart(survey: Survey, entry: _Object) -> bool:
    """Whether pixels deeper than a share of the greatest depth are two pieces or more, each of a fair size."""
    if _gap(entry)[1] > 1:
        return False  # in pieces, which is another finding
    mask = np.pad(entry.mask, 1)
    depth = edt.edt(mask, black_border=False)
    seeds = components(depth > _NECK * float(depth.max()))
    if seeds.max(initial=0) < 2:
        return False
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    parts = np.bincount(seeds[tuple(nearest)][mask], minlength=2)[1:]
    solid = int(np.count_nonzero(parts >= _PART * survey.median_px)) >= 2
    return solid and _neck(depth, seeds, parts) <= _NECK


def _neck(depth: npt.NDArray[np.float32], seeds: Labels, parts: npt.NDArray[np.int64]) -> float:
    """Depth at which the two largest parts meet, as a share of the smaller one's own greatest depth."""
    first, second = (np.argsort(parts)[::-1][:2] + 1).tolist()
    own = min(float(depth[seeds == n].max()) for n in (first, second))
    for level in np.linspace(own, 0, 25)[1:]:
        joined = components(depth > level)
        if joined[seeds == first].max() == joined[seeds == second].max():
            return float(level) / own
    return 0.0


def specks(survey: Survey) -> Iterator[Finding]:
    """Objects of a few pixels away from the image's edge, and stray pixels of larger ones."""
    limit = max(_SMALLEST_PX, _SPECK * survey.median_px)
    inside = survey.encoded if survey.is_instances else survey.pieces
    for example, labels, pieces in zip(survey.examples, inside, survey.pieces, strict=True):
        small = _small(pieces, limit)
        if not small:
            continue
        sizes = dict(zip(*(found.tolist() for found in np.unique(labels[labels > 0], return_counts=True)), strict=True))
        alone = [box for box, at, size in small if sizes[int(labels[at])] == size]
        stray, total = len(small) - len(alone), len(sizes)
        said = [f"{len(alone)} of {total} objects"] * bool(alone)
        said += [f"{counted(stray, 'stray piece')} of larger objects"] * bool(stray)
        severity: Severity = "warning" if len(alone) >= max(3, 0.05 * total) and survey.is_instances else "hint"
        yield Finding(
            "specks",
            severity,
            survey.mask_file(example.name),
            f"{' and '.join(said)} of at most {limit:.0f} px; the median object has {survey.median_px:.0f}",
            "slips of the pen are taught as objects, and each counts as a missed one in scores",
            "erase them (Fiji: MorphoLibJ > Size Opening), unless such objects are real",
            len(small),
            (Spot(example.name, small[0][0]),),
        )


def _small(pieces: Labels, limit: float) -> list[tuple[Box, tuple[int, ...], int]]:
    """Box, first pixel and size of each piece of at most ``limit`` pixels that is not cut by the image's edge."""
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if not ((sizes > 0) & (sizes <= limit)).any():
        return []
    found = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        if box is None or sizes[number] > limit:
            continue
        if any(s.start == 0 or s.stop == n for s, n in zip(box[-2:], pieces.shape[-2:], strict=True)):
            continue
        first = np.argwhere(pieces[box] == number)[0]
        found.append((box, tuple(int(s.start + k) for s, k in zip(box, first, strict=True)), int(sizes[number])))
    return found


def larger_than_reach(survey: Survey) -> Iterator[Finding]:
    """Objects that the network which `train` would plan cannot see from their middle to their edge."""
    reach = planned_reach(survey)
    if reach is None:
        return
    for name, objects in _objects(survey):
        large = [(max(s.stop - s.start for s in o.box) / 2, o) for o in objects]
        large = [(radius, o) for radius, o in large if radius > reach]
        if not large:
            continue
        radius, worst = max(large, key=lambda entry: entry[0])
        yield Finding(
            "large_objects",
            "warning",
            survey.mask_file(name),
            f"{len(large)} of {len(objects)} objects are larger than the receptive field of the network that would be "
            f"planned, as id {worst.id}: {2 * radius:.0f} px across, {2 * reach} px are seen",
            "from the middle of such an object its edge is not seen, so its middle may stay empty",
            f"take a larger stem, as train --set network.stem={_stem(survey, radius, reach)}, or use smaller images",
            radius,
            (Spot(name, worst.box),),
        )


def planned_reach(survey: Survey) -> int | None:
    """How far the planned network sees each way, on the axis on which it sees least; None for classes."""
    if not survey.is_instances or not survey.examples:
        return None
    geometry = chosen_geometry(_plan(survey), survey.dataset.ndim)
    return min(max(axis) for axis in geometry.reach)


def _plan(survey: Survey) -> Settings:
    meaning = survey.meaning
    assert meaning is not None
    labelled = [e.with_labels(labels) for e, labels in zip(survey.examples, survey.encoded, strict=True)]
    return choose(standard(), fingerprint(labelled, meaning.task, meaning.class_count), task=meaning.task)[0]


def _stem(survey: Survey, radius: float, reach: int) -> int:
    largest = largest_of(_plan(survey).network.stem)
    return int(np.ceil(largest * radius / reach)) + 1
