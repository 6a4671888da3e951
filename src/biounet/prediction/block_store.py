"""A folder of blocks: what is finished of an image larger than memory, so that it need not be done again.

One file a key, whole or not at all, so processes and machines that share the folder need no contact:
who finds a block there leaves it. Arrays are compressed and carry a checksum; there is no pickle.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import numpy.typing as npt

from biounet.errors import DataError
from biounet.images.writing import whole_file

Array = npt.NDArray[Any]

_SUFFIX = ".block"
_KINDS = "biuf"


class FolderStore:
    """A `labels.blocks.Store` in a folder. Raises `DataError` for a block that is damaged.

    What is put is forced to the disk, and outlives even a failure of power. Without ``lasting`` it is not, which is
    faster; a block that such a failure has damaged then counts as not there, and is made again.
    """

    def __init__(self, folder: str | Path, *, lasting: bool = True) -> None:
        self.folder, self.lasting = Path(folder), lasting

    def has(self, key: str) -> bool:
        """Whether the key is there; a file is, when it is complete."""
        return self._path(key).exists() and (self.lasting or self._is_sound(key))

    def put(self, key: str, arrays: Mapping[str, Array]) -> None:
        """Write arrays under a key. Raises `BiounetError` where the disk refuses, with nothing else lost."""
        packed = {name: imagecodecs.zstd_encode(np.ascontiguousarray(a).tobytes(), 1) for name, a in arrays.items()}
        index = {
            name: {"shape": a.shape, "dtype": a.dtype.str, "bytes": len(packed[name]), "crc": zlib.crc32(packed[name])}
            for name, a in arrays.items()
        }
        head = json.dumps(index).encode()
        with whole_file(self._path(key), lasting=self.lasting) as temporary, open(temporary, "wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for part in packed.values():
                file.write(part)

    def get(self, key: str, *names: str) -> dict[str, Array]:
        """Read the arrays of a key, or those of these ``names`` alone."""
        path = self._path(key)
        try:
            with open(path, "rb") as file:
                found = {}
                for name, entry in _index(file).items():
                    if name in names or not names:
                        found[name] = _unpacked(file.read(entry["bytes"]), entry)
                    else:
                        file.seek(entry["bytes"], os.SEEK_CUR)
                return found
        except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError, RuntimeError) as error:
            raise DataError(f"{path}: the block is damaged or gone ({error}); delete it and run again") from error

    def within(self, name: str, *, lasting: bool = True) -> FolderStore:
        """A store of its own in this one's folder, which is cleared with it."""
        return FolderStore(self.folder / name, lasting=lasting)

    def clear(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _is_sound(self, key: str) -> bool:
        """Whether a block is whole; nothing is unpacked."""
        try:
            with open(self._path(key), "rb") as file:
                return all(zlib.crc32(file.read(entry["bytes"])) == entry["crc"] for entry in _index(file).values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
            return False


def _index(file: BinaryIO) -> dict[str, Any]:
    """What a block says of its arrays, at its beginning."""
    return dict(json.loads(file.read(int.from_bytes(file.read(8), "little"))))


def _unpacked(data: bytes, entry: Mapping[str, Any]) -> Array:
    dtype = np.dtype(entry["dtype"])
    if zlib.crc32(data) != entry["crc"] or dtype.kind not in _KINDS:
        raise ValueError("its checksum is another")
    count = int(np.prod(entry["shape"], dtype=np.int64))
    pixels = imagecodecs.zstd_decode(data, out=count * dtype.itemsize) if count else b""
    return np.frombuffer(pixels, dtype).reshape(entry["shape"])
