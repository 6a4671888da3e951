"""Every check, in the order in which findings of equal severity are told. A new one is a function and a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from biounet.checks.duplicates import near_duplicates
from biounet.checks.files import swapped_files, unusable_files
from biounet.checks.finding import Finding
from biounet.checks.masks import empty_masks, foreign_values, inverted_masks, jpeg_labels, too_little
from biounet.checks.objects import distant_pieces, larger_than_reach, merged_objects, specks
from biounet.checks.pixels import bit_depths, blank_images, mixed_colours, pixel_sizes, saturation
from biounet.checks.placement import misplaced_masks
from biounet.checks.survey import Survey
from biounet.checks.unlabelled import unlabelled_objects

CHECKS: tuple[Callable[[Survey], Iterator[Finding]], ...] = (
    swapped_files,
    unusable_files,
    blank_images,
    foreign_values,
    jpeg_labels,
    inverted_masks,
    misplaced_masks,
    too_little,
    empty_masks,
    distant_pieces,
    merged_objects,
    near_duplicates,
    larger_than_reach,
    pixel_sizes,
    saturation,
    unlabelled_objects,
    specks,
    bit_depths,
    mixed_colours,
)
