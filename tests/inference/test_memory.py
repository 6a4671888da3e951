import pytest
from tests.inference.test_averaging import whole_numbers

from biounet.errors import UsageError
from biounet.inference.cost import PixelCost
from biounet.inference.memory import Budget, process_bytes
from biounet.inference.predict import parse_bytes, tile_memory


@pytest.fixture
def engine():
    made = whole_numbers(1, 2)
    made.cost = PixelCost(bytes=1000)
    return made


def test_more_memory_makes_larger_tiles_and_each_keeps_the_limit(engine):
    base, counts = 300 << 20, []
    for more in (200, 250, 300, 4000):
        budget = Budget(base + (more << 20), base)
        plan = budget.plan((600, 800), engine)
        assert tile_memory(plan, engine) <= budget.free < budget.limit - base
        counts.append(len(plan))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[2] > counts[3] == 1


def test_the_least_that_is_named_is_enough(engine):
    base = 300 << 20
    for tile in (None, 100):
        with pytest.raises(UsageError, match="the program takes 315 MB.*the least is") as caught:
            Budget(base + 1000, base).plan((600, 800), engine, tile)
        least = parse_bytes(str(caught.value).rpartition("the least is ")[2], "--memory")
        assert len(Budget(least, base).plan((600, 800), engine, tile)) > 1


def test_blocks_for_objects_shrink_with_the_memory(monkeypatch):
    base = 300 << 20
    monkeypatch.setattr("biounet.inference.memory.THREADS", 1)
    sides = [Budget(base + (more << 20), base).block(2, 20) for more in (170, 200, 220, 5000)]
    assert sides == sorted(sides)
    assert (sides[0], sides[-1]) == (256, 1024)


def test_the_process_takes_some_memory():
    before = process_bytes()
    held = bytearray(100 << 20)
    assert process_bytes() - before > 50 << 20
    assert len(held) > 0
