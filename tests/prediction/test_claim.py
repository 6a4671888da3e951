import json
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from biounet.errors import DataError, UsageError
from biounet.prediction import claim as claims
from biounet.prediction.block_store import FolderStore
from biounet.prediction.claim import claim, claimed, identity_of

MINE = {"model_sha256": "a" * 64, "input": {"name": "x.tif", "bytes": 1, "files": "f"}, "tile": None, "engine": "torch"}


def decided(number):
    return lambda: {"output": [number, number]}


def undecided():
    pytest.fail("the plan is there already")


def test_who_comes_later_takes_the_plan_that_is_there(tmp_path):
    store = FolderStore(tmp_path / "blocks")
    first = claim(store, MINE, decided(20), shared=False)
    store.put("tiles-0-0", {"ids": np.zeros((2, 2), np.uint8)})
    assert claim(store, MINE, undecided, shared=False) == first == {"identity": MINE, "output": [20, 20]}
    assert claim(store, MINE, undecided, shared=True) == first
    assert store.has("tiles-0-0")


@pytest.mark.parametrize("links", [True, False])
def test_those_who_begin_together_agree(tmp_path, monkeypatch, links):
    """All have looked and found nothing before any of them writes."""
    if not links:

        def refuse(*_):
            raise OSError("no links on this file system")

        monkeypatch.setattr(claims.os, "link", refuse)
    workers = 8
    together = Barrier(workers)

    def begin(number):
        def decide():
            together.wait(60)
            return {"output": [number, number]}

        return claim(FolderStore(tmp_path / "blocks"), MINE, decide, shared=False)

    with ThreadPoolExecutor(workers) as pool:
        plans = list(pool.map(begin, range(workers)))
    kept = json.loads((tmp_path / "blocks" / "plan.json").read_text())
    assert plans == [kept] * workers
    assert [path.name for path in (tmp_path / "blocks").glob("plan*")] == ["plan.json"]


def test_tiles_of_another_plan_go(tmp_path):
    store = FolderStore(tmp_path / "blocks")
    claim(store, MINE, decided(20), shared=False)
    store.put("tiles-0-0", {"ids": np.zeros((2, 2), np.uint8)})
    assert claim(store, MINE | {"tile": 30}, decided(30), shared=False)["output"] == [30, 30]
    assert not store.has("tiles-0-0")


def test_shards_touch_no_tiles_of_another_plan_and_say_what_differs(tmp_path):
    store = FolderStore(tmp_path / "blocks")
    claim(store, MINE, decided(20), shared=True)
    store.put("tiles-0-0", {"ids": np.zeros((2, 2), np.uint8)})
    other = MINE | {"model_sha256": "b" * 64, "tile": 30, "engine": "openvino"}
    said = r"another model and another engine 'torch' \(now 'openvino'\) and another --tile by itself \(now 30\)"
    with pytest.raises(UsageError, match=said):
        claim(store, other, undecided, shared=True)
    assert store.has("tiles-0-0")


def test_a_plan_that_cannot_be_read(tmp_path):
    store = FolderStore(tmp_path / "blocks")
    claim(store, MINE, decided(20), shared=False)
    (tmp_path / "blocks" / "plan.json").write_text('{"identity": ')
    with pytest.raises(DataError, match="plan.json: cannot be read .* delete the folder and run again"):
        claim(store, MINE, undecided, shared=False)


def test_work_that_another_process_began(tmp_path):
    store = FolderStore(tmp_path / "blocks")
    with pytest.raises(DataError, match="blocks: no work was begun here"):
        claimed(store)
    assert claim(store, MINE, decided(20), shared=False) == claimed(store)


@pytest.fixture(params=["a.tif", "a.zarr", "a.mrxs"])
def image(request, tmp_path):
    """An input and the file of it that holds pixels."""
    path = tmp_path / request.param
    if path.suffix == ".tif":
        pixels = path
    elif path.suffix == ".zarr":
        pixels = path / "0" / "c" / "0" / "0"
        (path / "zarr.json").parent.mkdir()
        (path / "zarr.json").write_text("{}")
    else:
        pixels = tmp_path / "a" / "Data0000.dat"
        path.write_bytes(b"slide")
    pixels.parent.mkdir(parents=True, exist_ok=True)
    pixels.write_bytes(b"x" * 100)
    return path, pixels


def test_an_input_is_another_one_once_its_pixels_were_written_again(image):
    path, pixels = image
    before = identity_of(path)
    os.utime(pixels)
    later = identity_of(path)
    pixels.write_bytes(b"y" * 101)
    os.utime(pixels, (1, 1))
    assert identity_of(path) == identity_of(path)
    assert len({one["files"] for one in (before, later, identity_of(path))}) == 3
    assert json.loads(json.dumps(before)) == before
    pixels.with_name("more").write_bytes(b"")
    assert (identity_of(path)["files"] == before["files"]) is False


def test_labels_that_are_written_into_an_image_make_it_no_other(image):
    path, pixels = image
    before = identity_of(path)
    if path.is_dir():
        (path / "labels" / "biounet" / "0").mkdir(parents=True)
        (path / "labels" / "biounet" / "0" / "0").write_bytes(b"ids")
        (path / "labels" / "zarr.json").write_text("{}")
        for name in ("zarr.json", ".zmetadata", ".0123456789ab.part.zarr.json"):
            (path / name).write_text('{"consolidated_metadata": {}}')
    else:
        pixels.parent.joinpath("labels").mkdir()
    assert identity_of(path) == before


def test_an_input_that_is_gone(tmp_path):
    with pytest.raises(DataError, match=r"gone\.tif: cannot be read .*; check the name"):
        identity_of(tmp_path / "gone.tif")
