"""An input as the image a model is to see: a file, or the files of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from biounet.datasets.nnunet import case_files, declared_channels
from biounet.errors import BiounetError
from biounet.images.formats import read_header, read_image
from biounet.images.image import Header, Image
from biounet.images.merged import merged_header, open_merged, read_merged
from biounet.images.regions import Regions, open_regions
from biounet.images.stored import CACHE_BYTES
from biounet.model_file import Model


@dataclass(frozen=True)
class Source:
    """The files of an image, one for each channel where there are several, and what its channels are called."""

    files: tuple[Path, ...]
    names: tuple[str, ...] = ()

    def header(self) -> Header:
        """What the image says of itself; its pixels may be larger than memory."""
        several = len(self.files) > 1
        return merged_header(self.files, self.names) if several else read_header(self.files[0], fits=False)

    def image(self) -> Image:
        """The image in memory."""
        return read_merged(self.files, self.names) if len(self.files) > 1 else read_image(self.files[0])

    def open(self, *, cache_bytes: int = CACHE_BYTES) -> Regions:
        """The image opened without reading its pixels."""
        if len(self.files) > 1:
            return open_merged(self.files, self.names, cache_bytes=cache_bytes)
        return open_regions(self.files[0], cache_bytes=cache_bytes)


def source_of(path: Path, model: Model) -> Source:
    """The image that an input stands for: with the other files of an nnU-Net case, where ``path`` is its first.

    ``CASE_0000`` and its like are taken for one image where each holds one channel and there are as many as the
    ``dataset.json`` beside them or in the folder above declares, or, where none does, as the model takes: frames of
    a film may be numbered so, too. Errors in headers are left to whoever reads the image.
    """
    files = case_files(path)
    alone = Source((path,))
    if len(files) < 2:
        return alone
    names = declared_channels(path.parent) or declared_channels(path.parent.parent)
    if len(files) != (len(names) or len(model.channels)):
        return alone
    return Source(files, names) if all(map(_has_one_channel, files)) else alone


def merge_cases(paths: Sequence[Path], model: Model) -> tuple[list[Path], list[str]]:
    """Inputs without the further files of images whose first file is among them, and what is to be said of that."""
    cases = [source.files for path in paths if len((source := source_of(path, model)).files) > 1]
    further = {file for files in cases for file in files[1:]}
    kept = [path for path in paths if path not in further]
    if not cases:
        return kept, []
    first = ", ".join(file.name for file in cases[0])
    more = f" (and so {len(cases) - 1} more)" if len(cases) > 1 else ""
    return kept, [f"{first}: channels of one image{more}"]


def _has_one_channel(path: Path) -> bool:
    try:
        header = read_header(path, fits=False)
    except BiounetError:
        return False
    return header.size("C") == 1 and header.palette is None
