"""Chunks packed by Blosc whose heads lie: an error where the library alone would read beyond them or die."""

import shutil
import struct

import numpy as np
import pytest
import zarr
from numcodecs.blosc import Blosc
from numcodecs.registry import codec_registry

from biounet.errors import DataError
from biounet.images.formats import read_image
from biounet.images.zarr_blosc import check_chunk, open_checked

PIXELS = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) // 7


def write(path, kind):
    """An array in two chunks; the file of the first."""
    if kind == "format 2":
        packed = {"compressors": Blosc("zstd", 3, shuffle=1), "zarr_format": 2}
        names, first = {"name": "v2", "separator": "/"}, "0/0"
    else:
        packed = {"compressors": zarr.codecs.BloscCodec(typesize=2, cname="zstd", shuffle="shuffle"), "zarr_format": 3}
        names, first = {"name": "default", "separator": "/"}, "c/0/0"
    if kind == "in shards":
        packed |= {"shards": (24, 32)}
    array = zarr.create_array(
        path, shape=PIXELS.shape, dtype=PIXELS.dtype, chunks=(12, 32), chunk_key_encoding=names, **packed
    )
    array[...] = PIXELS
    return path / first


KINDS = ("format 2", "format 3", "in shards")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_is_read(tmp_path, kind):
    write(tmp_path / "a", kind)
    np.testing.assert_array_equal(open_checked(tmp_path / "a", 2 if kind == "format 2" else 3)[...], PIXELS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_that_states_more_than_there_is(tmp_path, kind):
    chunk = write(tmp_path / "a", kind)
    data = bytearray(chunk.read_bytes())
    data[12:16] = struct.pack("<I", 0x3D00003D)  # of the first chunk, also within a shard
    chunk.write_bytes(data)
    with pytest.raises(ValueError, match=r"a Blosc chunk states 1023410237 bytes and has \d+"):
        open_checked(tmp_path / "a", 2 if kind == "format 2" else 3)[...]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_with_such_a_chunk_is_refused_in_one_line(tmp_path, write_zarr, version):
    write_zarr(tmp_path / "a.zarr", PIXELS, version=version)
    level = tmp_path / "a.zarr" / "s0"
    shutil.rmtree(level)
    write(level, "format 2" if version == "0.4" else "format 3")
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").array, PIXELS)
    chunk = level / ("0/0" if version == "0.4" else "c/0/0")
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(DataError, match="a Blosc chunk states") as caught:
        read_image(tmp_path / "a.zarr")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("at", "value"), [(3, b"\0"), (4, b"\xff\xff\xff\xff"), (8, b"\0\0\0\0"), (8, b"\xff\xff\xff\x7f"), (12, b"\1")]
)
def test_each_field_of_the_head_that_cannot_be(at, value):
    whole = bytes(Blosc("lz4").encode(PIXELS))
    check_chunk(whole)
    with pytest.raises(ValueError, match="a Blosc chunk states"):
        check_chunk(whole[:at] + value + whole[at + len(value) :])
    with pytest.raises(ValueError, match="a Blosc chunk of 15 bytes is cut off"):
        check_chunk(whole[:15])


def test_nothing_packed_is_nothing():
    check_chunk(bytes(Blosc("lz4").encode(b"")))


def test_arrays_that_others_open_keep_the_codecs_of_the_library(tmp_path):
    write(tmp_path / "a", "format 2")
    open_checked(tmp_path / "a", 2)
    assert codec_registry["blosc"] is Blosc
    assert zarr.config.get("codecs.blosc") == "zarr.codecs.blosc.BloscCodec"
