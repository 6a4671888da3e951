"""Files that cannot be used as they are: unpaired, unreadable, of other sizes or channels, or in the wrong place."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from biounet.checks.finding import Finding
from biounet.checks.survey import Survey

_SHARE = 0.5  # of all pairs: from here on the folders are swapped, not single files

_SWAPPED = "the network would be shown masks and taught images"
_WHY = {
    "unpaired": "training stops at such files",
    "shapes": "a mask that does not cover the pixels of its image says nothing about them",
    "channels": "one network takes one number of channels",
    "unreadable": "training stops at such files",
}
_REMEDY = {
    "unpaired": "give image and mask the same name, name the pairs in pairs.csv, or leave them out: train --skip-bad",
    "shapes": "export both again at one size (masks without interpolation), or leave them out: train --skip-bad",
    "channels": "save all images with the same channels, choose some: train --channels, or go on: train --skip-bad",
    "unreadable": "mend or remove the file, or leave it out: train --skip-bad",
}


def unusable_files(survey: Survey) -> Iterator[Finding]:
    """What finding and reading complained of, except where image and mask are swapped."""
    for problem in survey.problems:
        why, remedy = _WHY[problem.kind], _REMEDY[problem.kind]
        yield Finding(problem.kind, "error", problem.name, problem.message, why, remedy)


def swapped_files(survey: Survey) -> Iterator[Finding]:
    """Masks among the images and images among the masks."""
    found = survey.swapped
    if len(found) > _SHARE * len(survey.dataset.items):
        item, _, _ = found[0]
        images, masks = (shlex.quote(str(source.path.parent)) for source in (item.image, item.labels))
        yield Finding(
            "swapped_files",
            "error",
            item.image.path.parent.name,
            f"{len(found)} of {len(survey.dataset.items)} images look like masks, and their masks like images",
            _SWAPPED,
            f"give --images {masks} --masks {images}, or rename the folders"
            if images != masks
            else "exchange the names of images and masks",
            len(found),
        )
        return
    for item, image_share, mask_share in found:
        image, mask = item.image.path, item.labels.path
        yield Finding(
            "swapped_files",
            "error",
            f"{image.parent.name}/{image.name}",
            f"looks like a mask ({image_share:.0%} of neighbouring pixels are equal), and "
            f"{mask.parent.name}/{mask.name} like an image ({mask_share:.0%})",
            _SWAPPED,
            f"exchange {image} and {mask}",
            image_share - mask_share,
        )
