import math

import pytest
import torch

from biounet.training.loss import loss_of, loss_sums, weighted_cross_entropy


def test_arithmetic_written_out():
    logits = torch.tensor([[[[0.0, math.log(3.0)]], [[0.0, 0.0]]]])  # p of class 0: 1/2 and 3/4
    targets = torch.tensor([[[0, 1]]])
    weights = torch.tensor([[[2.0, 5.0]]])
    expected = -(2 * math.log(1 / 2) + 5 * math.log(1 / 4)) / 7
    assert weighted_cross_entropy(logits, targets, weights).item() == pytest.approx(expected, rel=1e-6)


def test_unknown_pixels_weigh_nothing_and_have_no_gradient():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.randint(0, 3, (1, 4, 4))
    targets[0, 1] = -1
    loss = weighted_cross_entropy(logits, targets, torch.ones(1, 4, 4))
    loss.backward()
    assert not logits.grad[0, :, 1].any()
    known = torch.ones(4, dtype=bool).index_fill(0, torch.tensor([1]), False)
    alone = weighted_cross_entropy(logits[:, :, known], targets[:, known], torch.ones(1, 3, 4))
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)


def test_nothing_known_is_zero_and_finite():
    logits = torch.zeros(1, 2, 2, 2, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.full((1, 2, 2), -1), torch.ones(1, 2, 2))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()


def test_equals_torch_without_weights_and_does_not_depend_on_their_scale():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, 3, 3, 3, generator=generator)
    targets = torch.randint(0, 4, (2, 3, 3, 3), generator=generator)
    expected = torch.nn.functional.cross_entropy(logits, targets)
    for scale in (1.0, 7.0):
        loss = weighted_cross_entropy(logits, targets, torch.full((2, 3, 3, 3), scale))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_large_logits_stay_finite_and_bfloat16_is_computed_in_float32():
    logits = torch.tensor([[[[1e4]], [[-1e4]]]])
    loss = weighted_cross_entropy(logits, torch.tensor([[[1]]]), torch.ones(1, 1, 1))
    assert loss.item() == pytest.approx(2e4)
    assert weighted_cross_entropy(logits.bfloat16(), torch.tensor([[[0]]]), torch.ones(1, 1, 1)).dtype == torch.float32


def test_dice_written_out():
    logits = torch.tensor([[[[0.0, math.log(3.0)]], [[0.0, 0.0]]]])  # p of class 0: 1/2 and 3/4
    targets = torch.tensor([[[0, 1]]])
    sums = loss_sums(logits, targets, torch.ones(1, 1, 2), with_dice=True)
    assert sums.tolist() == pytest.approx([-math.log(1 / 2) - math.log(1 / 4), 2, 1 / 2, 1 / 4, 9 / 4, 7 / 4])
    dice = (2 * (1 / 2) / (9 / 4) + 2 * (1 / 4) / (7 / 4)) / 2
    entropy = -(math.log(1 / 2) + math.log(1 / 4)) / 2
    assert loss_of(sums, 3.0).item() == pytest.approx(entropy + 3 * (1 - dice), rel=1e-5)
    assert loss_of(sums).item() == pytest.approx(entropy, rel=1e-6)


def test_dice_counts_known_pixels_only_and_a_class_that_is_nowhere_costs_nothing():
    logits = torch.full((1, 3, 1, 3), -40.0)
    logits[0, 0, 0, :2], logits[0, 2, 0, 2] = 40.0, 40.0
    targets = torch.tensor([[[0, 0, -1]]])
    sums = loss_sums(logits, targets, torch.ones(1, 1, 3), with_dice=True)
    assert loss_of(sums, 1.0).item() == pytest.approx(0, abs=1e-6)
    unknown = loss_sums(logits, torch.full_like(targets, -1), torch.ones(1, 1, 3), with_dice=True)
    assert loss_of(unknown, 1.0).item() == pytest.approx(0, abs=1e-6)


def test_sums_of_parts_add_up_to_those_of_the_whole():
    generator = torch.Generator().manual_seed(2)
    logits, weights = torch.randn(4, 3, 5, 5, generator=generator), torch.rand(4, 5, 5, generator=generator)
    targets = torch.randint(-1, 3, (4, 5, 5), generator=generator)
    parts = [loss_sums(*(values[half] for values in (logits, targets, weights)), with_dice=True)
             for half in (slice(0, 1), slice(1, 4))]  # fmt: skip
    torch.testing.assert_close(sum(parts), loss_sums(logits, targets, weights, with_dice=True))
