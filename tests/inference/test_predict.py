import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from biounet.errors import DataError, UsageError
from biounet.geometry import unet_geometry
from biounet.inference import predict as predict_module
from biounet.inference.cost import PixelCost
from biounet.inference.engines import make_engine
from biounet.inference.predict import (
    instance_settings,
    parse_bytes,
    plan_for,
    predict_array,
    segment,
    show_bytes,
    softmax,
    tile_memory,
    tiles_at_once,
    total_memory,
)
from biounet.inference.tiling import plan_tiles
from biounet.labels.instances import InstanceSettings, SplitSettings

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = ["bool", *INTEGERS, "float16", "float32", "float64"]
EXTREMES = [
    np.array([[0, 2**64 - 1]], np.uint64),
    np.array([[-(2**63), 2**63 - 1]], np.int64),
    np.array([[-1e30, 1e30]]),
    np.array([[1e-300, 2e-300]]),
]


class FakeEngine:
    """Sizes of a U-Net of some depth, in whole numbers: no rounding at all."""

    name, precision = "fake", "fp32"
    cost, batches = PixelCost(bytes=100), True

    def __init__(self, depth=1):
        self.geometry = unet_geometry(depth)
        self.margin = self.geometry.margin[0][0]
        self.period = self.geometry.period[0]

    def __call__(self, batch):
        x = np.rint(batch * 64).astype(np.int64)
        count, channels, n, m = x.shape
        m0, p = self.margin, self.period
        over = (n // p * p, m // p * p)  # pooling at the phase of the period
        pooled = x[:, :, : over[0], : over[1]].reshape(count, channels, over[0] // p, p, over[1] // p, p).max((3, 5))
        coarse = pooled.repeat(p, 2).repeat(p, 3)[:, :, m0 - m0 % p :, m0 - m0 % p :]
        height, width = n - 2 * m0, m - 2 * m0
        fine = x[:, :, 1 : 1 + height, 2 * m0 - 1 : 2 * m0 - 1 + width]
        cell = (3 * coarse[:, :, :height, :width] - 5 * fine) % 97 - 48
        return np.concatenate([np.zeros_like(cell), cell], axis=1).astype(np.float32)


# -- softmax


@given(st.integers(2, 6), st.integers(1, 30), st.sampled_from([1e-3, 1.0, 50.0, 1e30]), st.integers(0, 99))
def test_softmax_is_scipys(classes, pixels, size, seed):
    logits = (np.random.default_rng(seed).standard_normal((classes, pixels)) * size).astype(np.float32)
    before = logits.copy()
    found = softmax(logits)
    assert found.dtype == np.float32
    assert np.abs(found - special.softmax(logits.astype(np.float64), axis=0)).max() < 1e-6
    assert np.abs(found.sum(0) - 1).max() < 1e-6
    assert np.array_equal(logits, before)


def test_softmax_written_out():
    assert np.allclose(softmax(np.log(np.array([[1.0], [2.0], [5.0]], np.float32))).ravel(), [0.125, 0.25, 0.625])


# -- sizes of memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9), ("2 gb", 2 * 10**9), ("512MB", 512 * 10**6), ("1.5e9", 1_500_000_000), ("100", 100),
        ("512MiB", 512 * 2**20), ("1GiB", 2**30), ("3G", 3 * 10**9), ("1.5kB", 1500), (" 7 B ", 7), ("1TB", 10**12),
        ("2KiB", 2048), ("1E3", 1000),
    ],
)  # fmt: skip
def test_bytes_of_a_text(text, expected):
    assert parse_bytes(text, "--memory") == expected


@pytest.mark.parametrize(
    "text", ["", "GB", "2XB", "-1GB", "0", "0GB", "1.2.3GB", "1e999", "9" * 400, "nan", "inf", "2GBs", "1e", "two"]
)
def test_texts_that_are_no_size(text):
    with pytest.raises(UsageError, match=r"--memory '.*': write a size such as 2GB or 512MB"):
        parse_bytes(text, "--memory")


@given(st.integers(1, 10**13))
def test_what_is_shown_is_enough_and_hardly_more(count):
    shown = parse_bytes(show_bytes(count), "--memory")
    assert count <= shown <= 1.01 * count


@pytest.mark.parametrize(
    ("count", "shown"),
    [(1, "1 B"), (999, "999 B"), (1000, "1 kB"), (320_000_000, "320 MB"), (1_500_000_000, "1.5 GB"),
     (1_234_001, "1.24 MB"), (999_900_000, "1 GB")],
)  # fmt: skip
def test_sizes_for_people(count, shown):
    assert show_bytes(count) == shown


def test_the_machine_has_memory():
    assert 10**8 < total_memory() < 10**15


# -- plans


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), st.tuples(st.integers(1, 30_000), st.integers(1, 3000)), st.integers(10**4, 10**9))
def test_a_plan_keeps_the_limit_or_says_the_least_that_would_do(depth, size, memory):
    engine = FakeEngine(depth)
    try:
        plan = plan_for(size, engine, memory=memory)
    except UsageError as error:
        found = re.fullmatch(r"--memory .* is too small for one tile; the least is (.*)", str(error))
        least = parse_bytes(found[1], "--memory")
        assert least > memory
        assert tile_memory(plan_for(size, engine, memory=least), engine) <= least
        with pytest.raises(UsageError, match="too small"):
            plan_for(size, engine, memory=int(least * 0.985))
    else:
        assert tile_memory(plan, engine) <= memory


def test_more_memory_never_costs_more_work():
    engine = FakeEngine(4)
    work = [plan_for((2000, 3000), engine, memory=m).work for m in (5_000_000, 20_000_000, 10**8, 10**10)]
    assert work == sorted(work, reverse=True)
    assert work[0] > 3 * work[-1]


def test_without_a_limit_a_quarter_of_the_memory(monkeypatch):
    monkeypatch.setattr(predict_module, "total_memory", lambda: 400 * 100 * 100)  # a quarter: 100 x 100 pixels
    engine = FakeEngine(1)
    plan = plan_for((1000, 1000), engine)
    assert tile_memory(plan, engine) <= 100 * 100 * 100
    assert plan == plan_for((1000, 1000), engine, memory=100 * 100 * 100)


def test_a_tile_that_is_asked_for_is_taken_whatever_the_memory():
    engine = FakeEngine(2)
    assert plan_for((500, 500), engine, tile=100) == plan_tiles((500, 500), engine.geometry, 100)


def test_a_tile_beyond_the_limit_is_refused():
    engine = FakeEngine(1)
    needed = tile_memory(plan_tiles((500, 500), engine.geometry, 200), engine)
    assert plan_for((500, 500), engine, tile=200, memory=needed)
    with pytest.raises(UsageError, match=r"--tile 200 needs about 4.67 MB a tile, --memory allows 1 MB; lower --tile"):
        plan_for((500, 500), engine, tile=200, memory=10**6)


# -- whole images


@pytest.mark.parametrize("task", ["classes", "instances"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_choice_of_tiles_changes_a_bit(random_model, task, depth):
    """With a fake engine in whole numbers: probabilities and labels are equal bit for bit."""
    engine = FakeEngine(depth)
    model = replace(random_model(task=task), postprocessing={"smallest_px": 2, "give_back_px": 1})
    image = np.random.default_rng(depth).integers(0, 4000, (1, 83, 121)).astype(np.uint16)
    image[:, :9, :9] = 60_000  # a bright corner: statistics of one tile would differ from those of another
    whole = predict_array(model, engine, image, plan=plan_for((83, 121), engine, tile=1000))
    assert len(whole.plan) == 1
    assert 0.05 < (whole.labels > 0).mean() < 0.95
    for tile in (1, 7, 16, 30, 64):
        found = predict_array(model, engine, image, plan=plan_for((83, 121), engine, tile=tile))
        assert len(found.plan) > 1
        assert np.array_equal(found.probabilities, whole.probabilities)
        assert np.array_equal(found.labels, whole.labels)


def test_no_choice_of_tiles_changes_what_a_network_says(random_model):
    """fp32: logits within 2e-5 of the largest, so labels differ only where the best two are that close."""
    for seed in range(3):
        model = random_model(seed, classes=3, depth=2, width=4)
        engine = make_engine(model, device="cpu")
        image = np.random.default_rng(seed).normal(100, 20, (1, 70, 90))
        whole = predict_array(model, engine, image, plan=plan_for((70, 90), engine, tile=1000))
        logits = np.log(np.maximum(whole.probabilities.astype(np.float64), 1e-30))
        spread = np.ptp(logits)  # at most twice the largest |logit|
        ordered = np.sort(logits, axis=0)
        undecided = ordered[-1] - ordered[-2] < 4e-5 * spread
        for tile in (1, 20, 33):
            found = predict_array(model, engine, image, plan=plan_for((70, 90), engine, tile=tile))
            assert np.abs(found.probabilities - whole.probabilities).max() <= 2e-5 * spread
            assert not ((found.labels != whole.labels) & ~undecided).any()


@pytest.mark.parametrize("kind", ["image", "percentile", "dataset"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_image_of_any_type_gives_finite_probabilities(random_model, kind, dtype):
    model = random_model(kind=kind)
    engine = make_engine(model, device="cpu")
    rng = np.random.default_rng(0)
    for size in [(1, 1), (1, 7), (5, 1), (2, 3), (17, 16)]:
        image = rng.integers(0, 2 if dtype == "bool" else 100, size).astype(dtype)
        for array in (image, np.full_like(image, image.max())):
            found = predict_array(model, engine, array)
            assert found.probabilities.shape == (2, *size)
            assert found.probabilities.dtype == np.float32
            assert np.isfinite(found.probabilities).all()
            assert np.abs(found.probabilities.sum(0) - 1).max() < 1e-6
            assert found.labels.shape == size
            assert found.labels.dtype == np.int32


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 4), (3, 1, 9)])
def test_any_volume_too(random_model, size):
    model = random_model(ndim=3, task="instances")
    found = predict_array(model, make_engine(model, device="cpu"), np.full(size, 7, np.uint8))
    assert found.labels.shape == size
    assert np.abs(found.probabilities.sum(0) - 1).max() < 1e-6


@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_values(random_model, extreme):
    model = random_model()
    found = predict_array(model, make_engine(model, device="cpu"), extreme)
    assert np.isfinite(found.probabilities).all()


def test_the_image_stays_as_it_is(random_model):
    model = random_model()
    image = np.random.default_rng(0).integers(0, 255, (30, 30)).astype(np.uint8)
    image.setflags(write=False)
    before = image.copy()
    predict_array(model, make_engine(model, device="cpu"), image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("shape", [(2, 20, 20), (3, 20, 20), (20,), (1, 1, 20, 20)])
def test_other_channels_than_the_models_are_refused(random_model, shape):
    model = random_model(in_channels=1)
    with pytest.raises(DataError, match=re.escape(f"image of shape {shape}: the model takes 1 channel (0) and 2")):
        predict_array(model, make_engine(model, device="cpu"), np.zeros(shape))


def test_channels_of_a_model_of_several(random_model):
    model = random_model(in_channels=3)
    engine = make_engine(model, device="cpu")
    assert predict_array(model, engine, np.zeros((3, 8, 9))).labels.shape == (8, 9)
    with pytest.raises(DataError, match="the model takes 3 channel"):
        predict_array(model, engine, np.zeros((8, 9)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(random_model, bad):
    image = np.ones((20, 20), np.float32)
    image[3, 4] = bad
    with pytest.raises(DataError, match="image has 1 values that are NaN or infinite; replace them"):
        predict_array(random_model(), FakeEngine(), image)


def test_progress_is_told_for_every_tile(random_model):
    engine, told = FakeEngine(), []
    plan = plan_for((40, 40), engine, tile=20)
    predict_array(
        random_model(), engine, np.eye(40), plan=plan, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(n + 1, len(plan)) for n in range(len(plan))]


# -- labels


def test_classes_are_the_most_probable(random_model):
    probabilities = np.array([[0.5, 0.2, 0.1], [0.3, 0.5, 0.2], [0.2, 0.3, 0.7]], np.float32).reshape(3, 1, 3)
    labels = segment(random_model(classes=3), probabilities)
    assert labels.tolist() == [[0, 1, 2]]
    assert labels.dtype == np.int32


def test_objects_are_pieces_where_background_is_improbable(random_model):
    inside = np.array([[0.9, 0.6, 0.1, 0.7], [0.9, 0.2, 0.1, 0.2]], np.float32)
    model = random_model(task="instances")
    assert segment(model, np.stack([1 - inside, inside])).tolist() == [[1, 1, 0, 2], [1, 0, 0, 0]]
    stricter = replace(model, postprocessing={"threshold": 0.65, "smallest_px": 2})
    assert segment(stricter, np.stack([1 - inside, inside])).tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]


def test_post_processing_of_a_model_file():
    assert instance_settings({}) == InstanceSettings()
    split = {"seeds": "depth", "level": 2.0, "reach_px": 5, "smallest_seed_px": 1}
    found = instance_settings({"threshold": 0.4, "split": split})
    assert found == InstanceSettings(0.4, split=SplitSettings("depth", 2.0, 5))


# -- several tiles at once


def test_small_tiles_go_together_within_the_memory():
    engine = FakeEngine(1)
    plan = plan_for((30, 30), engine)
    one = tile_memory(plan, engine)
    assert [tiles_at_once(plan, engine, memory=m) for m in (one // 2, one, 5 * one, 10**9)] == [1, 1, 5, 32]
    engine.cost = PixelCost(operations=10**7, bytes=1)
    assert tiles_at_once(plan, engine, memory=10**9) == 1  # so large that a call's own cost does not show
    engine.cost, engine.batches = PixelCost(), False
    assert tiles_at_once(plan, engine, memory=10**9) == 1


@pytest.mark.parametrize(("name", "precision"), [("openvino", "fp32"), ("openvino", "bf16")])
def test_an_engine_that_takes_batches_gives_the_same_bits_in_any(random_model, name, precision):
    engine = make_engine(random_model(width=8, depth=2), engine=name, precision=precision, device="cpu")
    assert engine.batches
    tiles = np.random.default_rng(0).standard_normal((6, 1, 60, 52)).astype(np.float32)
    alone = np.concatenate([engine(tile[None]) for tile in tiles])
    for size in (2, 4, 6):
        assert np.array_equal(np.concatenate([engine(tiles[n : n + size]) for n in range(0, 6, size)]), alone)


def test_engines_that_gain_nothing_by_batches_get_none(random_model):
    for name in ("torch", "onnx"):
        assert not make_engine(random_model(), engine=name, device="cpu").batches
