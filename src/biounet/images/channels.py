"""Channels by name or by position."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from biounet.errors import UsageError

_POSITION = re.compile(r"^(?:[czt]:\d+/\d+\s*)+(?:-\s*)?")


def find_channels(wanted: Sequence[int | str], names: Sequence[str], count: int, source: object) -> list[int]:
    """Positions from 0 of channels in an image of ``count`` channels with these ``names`` (or none).

    Each is a name (upper and lower case are alike where that leaves one), or a position. Raises `UsageError`
    that lists what the image has for a channel that is not there, or that several channels could be.
    """
    return [_find(str(one).strip(), names, count, source) for one in wanted]


def _find(wanted: str, names: Sequence[str], count: int, source: object) -> int:
    for same in (str, str.casefold):
        found = [at for at, name in enumerate(names) if same(name) == same(wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(
                f"--channels {wanted}: {source} has {len(found)} channels of this name ({_listed(names, count)}); "
                "take their positions"
            )
    if wanted.isdecimal() and int(wanted) < count:
        return int(wanted)
    raise UsageError(f"--channels {wanted}: not in {source}, which has channels {_listed(names, count)}")


def _listed(names: Sequence[str], count: int) -> str:
    if not names:
        return f"0 to {count - 1}, without names"
    return ", ".join(f"{at} {name!r}" for at, name in enumerate(names))


def first_pixels(xml: str) -> ElementTree.Element | None:
    """The element Pixels of the first image in OME-XML; None where there is none, or no XML."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    return next((node for node in root.iter() if node.tag.endswith("Pixels")), None)


def ome_names(xml: str) -> tuple[str, ...]:
    """Names of the channels of the first image in OME-XML; () where any has none."""
    pixels = first_pixels(xml)
    if pixels is None:
        return ()
    return _complete([node.get("Name", "") for node in pixels if node.tag.endswith("Channel")])


def own_images(xml: str, file_name: str) -> str | None:
    """OME-XML of images in several files with only those that lie whole in the file of this name.

    None where all do, or none does, and the XML is to be taken as it is.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    images = [node for node in root if node.tag.endswith("Image")]
    named = {
        uuid.text
        for uuid in root.iter()
        if uuid.tag.endswith("UUID") and uuid.get("FileName", "").lower() == file_name.lower()
    }
    files = [{uuid.text for uuid in image.iter() if uuid.tag.endswith("UUID")} for image in images]
    others = [image for image, of in zip(images, files, strict=True) if not of <= named]
    if not named or not others or len(others) == len(images):
        return None
    for image in others:
        root.remove(image)
    root.set("UUID", str(next(iter(named))))
    return ElementTree.tostring(root, encoding="unicode")


def imagej_names(labels: Sequence[object] | None, count: int) -> tuple[str, ...]:
    """Names of the channels from ImageJ's slice labels, channels running fastest; () where they tell none."""
    plain = [_POSITION.sub("", str(label or "")).strip() for label in labels or ()]
    names = _complete(plain[:count])
    return names if len(names) == count and len(set(names)) == count else ()


def _complete(names: list[str]) -> tuple[str, ...]:
    return tuple(names) if names and all(names) else ()
