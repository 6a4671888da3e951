from pathlib import Path

import numpy as np
import pytest
import tifffile


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def write_pair(tmp_path):
    """Write an image and its instance mask (two cells) under images/ and masks/ of a folder."""

    def write(name, *, shape=(32, 40), root=tmp_path, mask_shape=None, value=1, suffix=".tif"):
        image = np.arange(np.prod(shape)).reshape(shape) % 251
        mask = np.zeros(mask_shape or shape, np.uint16)
        mask[2:9, 3:9] = value
        mask[12:20, 12:30] = value * 2
        for folder, array in (("images", image.astype(np.uint8)), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / folder / f"{name}{suffix}", array)
        return root

    return write


@pytest.fixture
def real_data():
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are not there: {folder}")
    return folder


@pytest.fixture
def write_zarr():
    """Write an OME-Zarr image by zarr alone: levels of every second pixel, 0.5 um a pixel, metadata of the version."""

    def write(path, array, *, axes="yx", version="0.5", levels=1, unit="micrometer", names=(), **options):
        zarr = pytest.importorskip("zarr")
        kinds = {"t": "time", "c": "channel"}
        listed = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
        for axis in listed:
            axis.update({"unit": unit} if unit and axis["type"] == "space" else {})
        image = {"axes": listed, "datasets": [dataset(axes, level) for level in range(levels)]}
        window = {"start": 0, "end": 9, "min": 0, "max": 9}
        channels = [{"label": name, "color": "FF0000", "window": window} for name in names]
        display = {"omero": {"channels": channels}} if names else {}
        options = {"chunks": (*(1 for _ in axes[:-2]), 16, 20)} | options
        if version == "0.5":
            attributes = {"ome": {"version": "0.5", "multiscales": [image], **display}}
            options |= {"dimension_names": list(axes)}
        else:
            attributes = {"multiscales": [image | {"version": "0.4"}], **display}
            options |= {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2, attributes=attributes)
        for level in range(levels):
            part = array[..., :: 2**level, :: 2**level]
            stored = group.create_array(f"s{level}", shape=part.shape, dtype=part.dtype, **options)
            stored[...] = part
        return path

    def dataset(axes, level):
        scale = [0.5 * (2**level if axis in "yx" else 1) for axis in axes]
        return {"path": f"s{level}", "coordinateTransformations": [{"type": "scale", "scale": scale}]}

    return write
