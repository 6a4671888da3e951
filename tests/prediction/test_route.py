from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biounet.images.image import Header
from biounet.inference.engines import make_engine
from biounet.inference.memory import Budget
from biounet.prediction.large import folder_of
from biounet.prediction.route import takes_blocks
from biounet.results.request import Request

GIGA = 1 << 30


@pytest.fixture
def by_blocks(model, tmp_path):
    """Whether a file goes block by block: of a shape, a request and a limit of memory."""
    made = replace(model(), pixel_size_um=(0.5, 0.5))
    engine = make_engine(made, engine="torch", device="cpu")

    def ask(shape=(512, 512), *, limit=2 * GIGA, size=(0.5, 0.5), **request):
        header = Header("YX", shape, np.dtype(np.uint16), 1 << 60, lambda: pytest.fail("was read"), pixel_size_um=size)
        asked = Request(tmp_path, **request)
        return takes_blocks(Path("x.tif"), header, made, engine, asked, Budget(limit, GIGA // 2))

    return ask


def test_what_fits_into_memory_goes_through_it(by_blocks):
    assert not by_blocks()
    assert by_blocks((30_000, 30_000))
    assert not by_blocks((30_000, 30_000), limit=1000 * GIGA)
    sides = [side for side in range(500, 30_000, 500) if by_blocks((side, side))]
    assert sides == list(range(sides[0], 30_000, 500))  # once too large, always too large


@pytest.mark.parametrize("asked", [{"shard": (1, 2)}, {"merge": True}, {"cluster": "local:2"}, {"region": "auto"}])
def test_what_several_processes_or_a_region_compute_goes_by_blocks(by_blocks, asked):
    assert by_blocks(**asked)


def test_another_pixel_size_than_the_models_goes_by_blocks(by_blocks):
    assert by_blocks(size=(0.25, 0.25))
    assert not by_blocks(size=(0.51, 0.51))  # the same within 5 %
    assert not by_blocks(size=None)
    assert by_blocks(size=None, pixel_size_um=(0.25, 0.25))


def test_what_was_begun_by_blocks_goes_on_so(by_blocks, tmp_path):
    folder_of(tmp_path, "x").mkdir()
    assert by_blocks()
