import itertools
import multiprocessing
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.errors import DataError, UsageError
from biounet.geometry import mirrored
from biounet.labels.targets import carve, class_targets
from biounet.samples.augment import Augmentation
from biounet.samples.border_weights import weight_map
from biounet.samples.sampler import Sampler, class_counts

OFF = Augmentation.off()
VARIED = Augmentation(
    elastic_std_px=10.0, elastic_grid=3, rotation_degrees=180.0, rotate_in_space=None, mirror=True, scale=(0.85, 1.15),
    shift_px=16, gamma=0.25, contrast=0.25, brightness=0.2, noise=0.1, blur_px=0.0,
)  # fmt: skip
SPATIAL = replace(VARIED, gamma=0, contrast=0, brightness=0, noise=0)  # grey values left alone


def crowd(shape, seed=0, pitch=9):
    """Touching boxes of random size, a tenth of the pixels unknown in a corner."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    corners = itertools.product(*(range(0, n, pitch) for n in shape))
    for cell, corner in enumerate(corners, start=1):
        labels[tuple(slice(c, c + int(rng.integers(4, pitch + 3))) for c in corner)] = cell
    return labels


def positions(shape):
    """An image whose channels say where each pixel lies."""
    return np.indices(shape).astype(np.float32)


def sampler(labels=None, image=None, **options):
    labels = crowd((70, 80)) if labels is None else labels
    ndim = labels.ndim
    settings = {
        "images": (positions(labels.shape) if image is None else image,),
        "labels": (labels,),
        "input_size": (60,) * ndim,
        "output_size": (20,) * ndim,
        "margin": (20,) * ndim,
        "augmentation": OFF,
        "class_weights": (0.5, 2.0),
    }
    return Sampler(**(settings | options))


def assert_same(one, other):
    for name, a, b in zip(one._fields, one, other, strict=True):
        assert a.dtype == b.dtype, name
        assert np.array_equal(a, b), name


def plane_weights(labels, draws):
    """Target, weights and instances of the whole plane, by the library's parts."""
    carved = carve(labels, draws.line_width)
    targets = class_targets(carved, task="instances")
    return targets, weight_map(carved, targets, draws.class_weights, spacing=draws.spacing), carved


def test_a_sample_has_the_promised_arrays():
    sample = sampler(augmentation=VARIED).sample(0, 0, 0)
    assert [a.shape for a in sample] == [(2, 60, 60), (20, 20), (20, 20), (20, 20)]
    assert [a.dtype for a in sample] == [np.float32, np.int32, np.float32, np.int32]


def test_a_sample_depends_on_seed_step_and_index_and_nothing_else():
    draws = sampler(augmentation=VARIED)
    first = draws.sample(1, 2, 3)
    others = [draws.sample(*key) for key in [(0, 2, 3), (1, 0, 3), (1, 2, 0), (3, 2, 1), (1, 3, 2)]]
    assert_same(draws.sample(1, 2, 3), first)
    assert all((other.image != first.image).any() for other in others)


def test_a_spawned_process_draws_the_same_bits():
    draws = sampler(augmentation=replace(VARIED, blur_px=1.0))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(draws.sample, (5, 6, 7))
    assert_same(there, draws.sample(5, 6, 7))


def test_a_sampler_is_frozen_and_survives_pickling():
    draws = sampler(augmentation=VARIED)
    assert_same(pickle.loads(pickle.dumps(draws)).sample(1, 1, 1), draws.sample(1, 1, 1))
    with pytest.raises(FrozenInstanceError):
        draws.w0 = 3


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)), st.integers(1, 25), st.integers(0, 30),
    st.integers(0, 9), st.integers(0, 2**20),
)  # fmt: skip
def test_everything_off_is_a_crop_of_the_mirrored_image(shape, output, margin, shift, seed):
    """Also for images smaller than the output, margins smaller than the halo, and off-centre outputs."""
    labels = np.random.default_rng(seed).integers(-1, 5, shape).astype(np.int32)
    labels[0, 0] = 0  # at least one known pixel
    image = positions(shape)
    draws = sampler(
        labels, image, input_size=(output + 2 * margin + 3,) * 2, output_size=(output,) * 2,
        margin=(margin,) * 2, augmentation=replace(OFF, shift_px=shift), line_width=0,
    )  # fmt: skip
    sample = draws.sample(seed, 0, 0)
    padded = np.pad(labels, output + shift, constant_values=-1)
    low = [min(0, n - output) - shift for n in shape]
    high = [max(0, n - output) + shift for n in shape]
    matches = 0
    for start in itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True))):
        here = tuple(slice(s + output + shift, s + 2 * output + shift) for s in start)
        if np.array_equal(padded[here], sample.instances):
            first = np.subtract(start, margin)
            matches += np.array_equal(mirrored(image, first, first + draws.input_size), sample.image)
    assert matches >= 1


@pytest.mark.parametrize("margin", [20, 3, 0])
def test_weights_without_deformation_are_those_of_the_whole_plane(margin):
    labels = crowd((70, 80))
    labels[:9, :20] = -1
    draws = sampler(labels, margin=(margin,) * 2, input_size=(20 + 2 * margin,) * 2)
    whole = plane_weights(labels, draws)
    for index in range(12):
        sample = draws.sample(0, 0, index)
        y, x = sample.image[:, margin, margin].astype(int)
        for ours, plane in zip(sample[1:], whole, strict=True):
            assert np.array_equal(ours, plane[y : y + 20, x : x + 20])


@pytest.mark.parametrize("reading", ["multiply", "sum"])
def test_weights_after_deformation_are_those_of_the_whole_plane(monkeypatch, reading):
    draws = sampler(
        crowd((90, 90)),
        augmentation=SPATIAL,
        reading=reading,
        input_size=(200,) * 2,
        margin=(90,) * 2,
        line_width=3,
    )
    ours = [draws.sample(0, 0, index) for index in range(6)]
    assert max(draws.halo) < 30
    monkeypatch.setattr(Sampler, "halo", property(lambda self: (90, 90)))
    for index, sample in enumerate(ours):
        assert_same(sample, draws.sample(0, 0, index))


def test_the_halo_is_what_the_band_and_the_line_reach():
    assert sampler().halo == (25, 25)
    assert sampler(line_width=5).halo == (27, 27)
    assert sampler(spacing=(5.0, 0.5)).halo == (5, 50)
    assert sampler(task="classes", labels=np.zeros((30, 30), np.int32)).halo == (0, 0)


@pytest.mark.parametrize("shape", [(70, 80), (30, 34, 36)])
def test_image_and_labels_stay_in_register(shape):
    labels = crowd(shape)
    ndim = len(shape)
    draws = sampler(
        labels, augmentation=replace(SPATIAL, elastic_std_px=3), line_width=0,
        input_size=(24,) * ndim, output_size=(16,) * ndim, margin=(4,) * ndim,
    )  # fmt: skip
    agree = 0
    for index in range(5):
        sample = draws.sample(0, 0, index)
        centre = (slice(4, 20),) * ndim
        source = sample.image[(slice(None), *centre)]
        edges = np.array(shape).reshape(-1, *[1] * ndim) - 1
        nearest = labels[tuple(np.clip(np.rint(source).astype(int), 0, edges))]
        clear = (sample.instances != -1) & (np.abs(source % 1 - 0.5) > 0.02).all(0)
        assert (nearest == sample.instances)[clear].all()
        agree += clear.sum()
    assert agree > 0.3 * 5 * 16**ndim


def test_what_lies_outside_the_image_is_unknown_and_weighs_nothing():
    draws = sampler(crowd((12, 12)), augmentation=replace(SPATIAL, scale=(0.5, 0.5)))
    for index in range(5):
        sample = draws.sample(0, 0, index)
        assert 0.5 < (sample.target == -1).mean() < 1
        assert ((sample.weights == 0) == (sample.target == -1)).all()
        assert ((sample.instances == -1) == (sample.target == -1)).all()


def test_the_output_lies_inside_the_image_and_everywhere_in_it():
    draws = sampler(np.zeros((23, 50), np.int32))
    starts = {tuple(draws.sample(0, 0, i).image[:, 20, 20].astype(int)) for i in range(400)}
    assert {y for y, _ in starts} == set(range(4))
    assert min(x for _, x in starts) == 0
    assert max(x for _, x in starts) == 30
    assert len({x for _, x in starts}) > 28


def test_the_output_overhangs_the_image_by_as_much_as_the_shift():
    draws = sampler(np.zeros((30, 40), np.int32), augmentation=replace(OFF, shift_px=2))
    known = [draws.sample(0, 0, i).target == 0 for i in range(300)]
    for axis in (0, 1):
        ends = np.array([k.any(1 - axis)[[0, 1, 2, -3, -2, -1]] for k in known])
        assert ends[:, 2:4].all()  # never more than 2 px outside
        assert (~ends[:, 1]).any()  # but 2 px at either end
        assert (~ends[:, 4]).any()


def test_gamma_uses_the_range_of_the_image_that_was_drawn():
    labels = (np.zeros((20, 20), np.int32),) * 2
    stripes = np.indices((20, 20))[:1] % 2
    images = tuple((low + high * stripes).astype(np.float32) for low, high in [(0, 1), (-8, 64)])
    draws = replace(sampler(), images=images, labels=labels, augmentation=replace(OFF, gamma=2.0))
    seen = {tuple(np.unique(draws.sample(0, 0, index).image)) for index in range(10)}
    assert seen == {(0, 1), (-8, 56)}  # the ends of the range stay, whatever the exponent


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**20))
def test_partly_annotated_images_are_seen_where_annotated(seed):
    rng = np.random.default_rng(seed)
    labels = np.full((60, 70), -1, np.int32)
    labels[rng.integers(60), rng.integers(70)] = 1
    sample = sampler(labels, augmentation=replace(SPATIAL, shift_px=30)).sample(seed, 0, 0)
    assert (sample.target == 1).any()


def test_images_are_drawn_by_annotated_area():
    areas = [(30, 40), (30, 10), (60, 60)]
    labels = [np.zeros(area, np.int32) for area in areas]
    labels[2][:] = -1
    labels[2][40:, 40:] = 0  # 400 known pixels of 3600
    images = tuple(np.full((1, *area), value, np.float32) for value, area in enumerate(areas))
    draws = replace(
        sampler(), images=images, labels=tuple(labels), output_size=(4, 4), input_size=(4, 4), margin=(0, 0)
    )
    drawn = np.bincount([int(draws.sample(0, 0, i).image[0, 0, 0]) for i in range(1500)], minlength=3)
    share = np.array([1200, 300, 400]) / 1900
    error = np.sqrt(share * (1 - share) / 1500)
    assert (np.abs(drawn / 1500 - share) < 4 * error).all()


def test_class_models_are_neither_carved_nor_weighed_at_borders():
    labels = np.random.default_rng(0).integers(-1, 3, (40, 40)).astype(np.int32)
    draws = sampler(labels, task="classes", classes=3, class_weights=(1.0, 2.0, 3.0))
    sample = draws.sample(0, 0, 0)
    assert np.array_equal(sample.target, sample.instances)
    assert np.array_equal(sample.weights, np.array([1, 2, 3, 0])[sample.target])
    assert set(np.unique(sample.target)) == {-1, 0, 1, 2}


def test_several_cell_classes():
    labels = crowd((40, 40))
    classes_of = {cell: 1 + cell % 2 for cell in range(1, int(labels.max()) + 1)}
    draws = sampler(labels, classes=3, class_weights=(1.0, 1.0, 1.0), classes_of=(classes_of,))
    sample = draws.sample(0, 0, 0)
    cells = sample.instances > 0
    assert (sample.target[cells] == 1 + sample.instances[cells] % 2).all()
    assert set(np.unique(sample.target)) == {0, 1, 2}


def test_touching_cells_are_apart_in_the_sample():
    sample = sampler(augmentation=SPATIAL).sample(0, 0, 0)
    for axis in (0, 1):
        here, there = np.delete(sample.instances, -1, axis), np.delete(sample.instances, 0, axis)
        assert not ((here > 0) & (there > 0) & (here != there)).any()
    assert sample.weights[sample.target == 0].max() > 5  # the line between them weighs much


def test_a_batch_stacks_the_samples_of_a_step():
    draws = sampler(augmentation=VARIED)
    batch = draws.batch(4, 9, 3, first=2)
    assert batch.image.shape == (3, 2, 60, 60)
    for number in range(3):
        assert_same(type(batch)(*(array[number] for array in batch)), draws.sample(4, 9, 2 + number))


def test_thick_slices_in_3d():
    labels = crowd((14, 40, 40))
    draws = sampler(
        labels, augmentation=replace(SPATIAL, elastic_std_px=2), spacing=(4.0, 1.0, 1.0),
        input_size=(10, 40, 40), output_size=(6, 20, 20), margin=(2, 10, 10),
    )  # fmt: skip
    assert draws.halo == (7, 25, 25)
    batch = draws.batch(0, 0, 4)
    assert batch.image.shape == (4, 3, 10, 40, 40)
    assert batch.weights.shape == (4, 6, 20, 20)
    assert batch.weights.max() > 3
    off = replace(draws, augmentation=OFF)
    sample = off.sample(0, 0, 0)
    z, y, x = sample.image[:, 2, 10, 10].astype(int)
    for ours, plane in zip(sample[1:], plane_weights(labels, off), strict=True):
        assert np.array_equal(ours, plane[z : z + 6, y : y + 20, x : x + 20])


def test_class_counts_are_taken_after_carving():
    labels = [np.array([[1, 1, 2, 2, 0, -1]], np.int32), np.array([[5, 0]], np.int32)]
    assert class_counts(labels, task="instances", line_width=2).tolist() == [4, 3]
    assert class_counts(labels, task="instances", line_width=0).tolist() == [2, 5]
    kinds = [{1: 1, 2: 2}, {5: 2}]
    assert class_counts(labels, task="instances", classes=3, line_width=0, classes_of=kinds).tolist() == [
        2,
        2,
        3,
    ]
    assert class_counts(labels, task="classes", classes=6).tolist() == [2, 2, 2, 0, 0, 1]
    with pytest.raises(DataError, match="labels hold class 5, but there are 3 classes, 0 to 2"):
        class_counts(labels, task="classes", classes=3)


def test_what_does_not_fit_is_refused():
    good = np.zeros((9, 9), np.int32)
    with pytest.raises(DataError, match="1 images and 0 label images"):
        Sampler((positions((9, 9)),), (), (9, 9), (5, 5), (2, 2))
    with pytest.raises(DataError, match=r"image 0 has shape \(2, 9, 8\) and its labels \(9, 9\)"):
        sampler(good, positions((9, 8)))
    with pytest.raises(DataError, match="image 0 is float64, its labels int32"):
        sampler(good, np.zeros((1, 9, 9)))
    with pytest.raises(DataError, match="nothing is annotated"):
        sampler(good - 1)
    with pytest.raises(UsageError, match=r"output_size \(=\(20, 20\)\) at margin \(=\(41, 20\)\)"):
        sampler(good, margin=(41, 20))
    with pytest.raises(UsageError, match=r"class_weights \(=\(0.5, 2.0\)\) must give 3 numbers"):
        sampler(good, classes=3)


# -- balanced patches


def lonely():
    """One small cell in a large background: 25 of 6,400 pixels."""
    labels = np.zeros((80, 80), np.int32)
    labels[30:35, 40:45] = 1
    return labels


PATCH = {"input_size": (9, 9), "output_size": (1, 1), "margin": (4, 4)}


@pytest.mark.parametrize("task", ["instances", "classes"])
def test_balanced_patches_show_every_class_equally_often(task):
    labels = lonely()
    draws = sampler(labels, balanced=True, task=task, augmentation=VARIED, **PATCH)
    classes = [int(draws.sample(0, step, 0).target[0, 0]) for step in range(400)]
    assert 0.42 < np.mean(classes) < 0.58
    anywhere = sampler(labels, task=task, augmentation=OFF, **PATCH)
    assert np.mean([int(anywhere.sample(0, step, 0).target[0, 0]) for step in range(400)]) < 0.03


def test_a_balanced_patch_is_centred_on_a_pixel_of_its_class():
    labels = lonely()
    draws = sampler(labels, balanced=True, **PATCH)
    seen = set()
    for step in range(300):
        sample = draws.sample(0, step, 0)
        y, x = (int(v) for v in sample.image[:, 4, 4])
        assert sample.target[0, 0] == (labels[y, x] > 0)
        seen.add((y, x))
    assert {(y, x) for y in range(30, 35) for x in range(40, 45)} <= seen  # every pixel of the rare class


def test_the_line_between_touching_cells_is_drawn_as_background():
    labels = np.zeros((12, 24), np.int32)
    labels[:, :12], labels[:, 12:] = 1, 2  # nothing but two cells and the line that is carved
    draws = sampler(labels, balanced=True, **PATCH)
    found = [draws.sample(0, step, 0) for step in range(100)]
    background = {int(s.image[1, 4, 4]) for s in found if s.target[0, 0] == 0}
    assert background == {11, 12}
    assert 30 < sum(int(s.target[0, 0]) for s in found) < 70


def test_balanced_patches_weigh_alike_and_unknown_pixels_are_never_drawn():
    labels = lonely()
    labels[:, :30] = -1
    draws = sampler(labels, balanced=True, class_weights=(0.1, 9.0), w0=0.0, **PATCH)
    samples = [draws.sample(0, step, 0) for step in range(100)]
    assert {float(s.weights[0, 0]) for s in samples} == {1.0}
    assert min(int(s.image[1, 4, 4]) for s in samples) >= 30


def test_a_class_that_does_not_occur_is_not_drawn():
    draws = sampler(lonely(), balanced=True, task="classes", classes=3, class_weights=(1, 1, 1), **PATCH)
    assert {int(draws.sample(0, step, 0).target[0, 0]) for step in range(60)} == {0, 1}


def test_balanced_samples_are_the_same_in_a_worker():
    draws = sampler(balanced=True, **PATCH)
    assert_same(pickle.loads(pickle.dumps(draws)).sample(1, 2, 3), draws.sample(1, 2, 3))
