import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from biounet.errors import DataError, UsageError
from biounet.prediction import claim as claims
from biounet.prediction.block_store import FolderStore
from biounet.prediction.claim import claim

MINE = {"model": "a" * 64, "input": {"name": "x.tif", "bytes": 1, "changed": 2}, "tile": None, "engine": "torch"}


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
    other = MINE | {"model": "b" * 64, "tile": 30, "engine": "openvino"}
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
