"""Arrays of zarr opened so that a damaged chunk packed by Blosc is an error, not a crash.

The Blosc of numcodecs believes the sizes in the head of a chunk and reads beyond its end, or dies, where they are
wrong (https://github.com/zarr-developers/numcodecs/issues/228). Blosc itself asks callers to compare the head with
what they hold, which is done here before it is called. This module imports zarr; import it late.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs.blosc import Blosc
from numcodecs.registry import codec_registry
from zarr.codecs import BloscCodec
from zarr.registry import register_codec

_HEAD = struct.Struct("<4B3I")  # versions of format and codec, flags, size of an element, three sizes in bytes
_MOST_BYTES = 2**31 - 1 - 16  # that Blosc packs at once
_ONE_AT_A_TIME = threading.Lock()


def check_chunk(packed: Any) -> None:
    """Raise ValueError where the head of a chunk, any buffer of bytes, does not fit what there is.

    Source: ``blosc_cbuffer_validate`` of c-blosc, https://github.com/Blosc/c-blosc/blob/main/blosc/blosc.h.
    """
    there = memoryview(packed).cast("B")
    if len(there) < _HEAD.size:
        raise ValueError(f"a Blosc chunk of {len(there)} bytes is cut off")
    _, _, _, element, unpacked, block, stored = _HEAD.unpack_from(there)
    if stored != len(there):
        raise ValueError(f"a Blosc chunk states {stored} bytes and has {len(there)}")
    if unpacked > _MOST_BYTES or element == 0 or (unpacked and not 0 < block <= unpacked):
        raise ValueError(f"a Blosc chunk states {unpacked} bytes in blocks of {block} and elements of {element}")


class _Checked(Blosc):  # type: ignore[misc]
    """Of zarr format 2."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        check_chunk(np.ascontiguousarray(buf) if isinstance(buf, np.ndarray) else buf)
        return super().decode(buf, out)


class _CheckedCodec(BloscCodec):
    """Of zarr format 3."""

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        check_chunk(np.ascontiguousarray(chunk_bytes.as_numpy_array()))
        return await super()._decode_single(chunk_bytes, chunk_spec)


_NAME = f"{_CheckedCodec.__module__}.{_CheckedCodec.__qualname__}"
register_codec("blosc", _CheckedCodec, qualname=_NAME)  # one to choose from; the default stays what it was


def open_checked(path: Path, zarr_format: int) -> zarr.Array[Any]:
    """The array in a folder, for reading; a damaged Blosc chunk raises ValueError when it is read."""
    with _ONE_AT_A_TIME, _checked_by_name():
        return zarr.open_array(path, mode="r", zarr_format=zarr_format)  # type: ignore[arg-type]


@contextmanager
def _checked_by_name() -> Iterator[None]:
    """Arrays choose their codecs by name when they are opened; in here the checked ones."""
    before = codec_registry["blosc"]
    codec_registry["blosc"] = _Checked
    try:
        with zarr.config.set({"codecs.blosc": _NAME}):
            yield
    finally:
        codec_registry["blosc"] = before
