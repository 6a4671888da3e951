import numpy as np
import pytest
import torch
from torch import nn

from biounet.training.priors import SHARES, best_of, best_share, share_scores, take_back, without_weights

WEIGHTS = (4.0, 0.5)


def balanced(posterior):
    """What a network trained with the weights says where the true posterior of class 0 is this."""
    joint = np.stack([WEIGHTS[0] * posterior, WEIGHTS[1] * (1 - posterior)])
    return (joint / joint.sum(0)).astype(np.float32)


def test_the_shift_gives_the_posterior_back():
    posterior = np.linspace(0.02, 0.98, 25).reshape(5, 5)
    head = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2)[..., None, None])
        head.bias.zero_()
    take_back(head, WEIGHTS, 1.0)
    logits = torch.from_numpy(np.log(balanced(posterior)))[None]
    found = head(logits).softmax(1)[0, 0].detach().numpy()
    np.testing.assert_allclose(found, posterior, rtol=1e-5)
    np.testing.assert_allclose(without_weights(balanced(posterior), WEIGHTS, 1.0)[0], posterior, rtol=1e-5)


def test_nothing_is_shifted_by_share_0_or_for_a_class_without_weight():
    head = nn.Conv2d(1, 3, 1)
    before = head.bias.detach().clone()
    take_back(head, (2.0, 0.0, 1.0), 0.0)
    assert torch.equal(head.bias, before)
    take_back(head, (2.0, 0.0, 1.0), 0.5)
    assert torch.allclose(head.bias - before, torch.tensor([-0.5 * np.log(2.0), 0.0, 0.0], dtype=torch.float32))


def test_labels_drawn_from_the_posterior_want_the_whole_weight_back():
    rng = np.random.default_rng(0)
    posterior = rng.beta(1, 4, (200, 200))
    truth = (rng.random((200, 200)) > posterior).astype(np.int32)  # class 1 where not class 0
    assert best_share([balanced(posterior)], [truth], WEIGHTS) >= 0.5


def test_a_truth_that_follows_the_balanced_argmax_wants_none():
    posterior = np.random.default_rng(1).random((50, 50))
    p = balanced(posterior)
    assert best_share([p], [p.argmax(0).astype(np.int32)], WEIGHTS) == 0.0


def test_unknown_pixels_do_not_decide():
    posterior = np.random.default_rng(2).random((40, 40))
    p = balanced(posterior)
    truth = p.argmax(0).astype(np.int32)
    truth[:20] = -1
    wrong = p.copy()
    wrong[:, :20] = wrong[::-1, :20]
    assert best_share([wrong], [truth], WEIGHTS) == best_share([p], [truth], WEIGHTS) == 0.0


def test_the_best_share_is_that_of_the_best_mean_over_images_and_the_lowest_of_equals():
    assert best_of([(0.1, 0.5, 0.2, 0.2, 0.2), (0.4, 0.3, 0.9, 0.1, 0.1)]) == 0.5
    assert best_of([(0.1, 0.5, 0.2, 0.5, 0.2)]) == 0.25
    posterior = np.random.default_rng(1).random((50, 50))
    truth = (np.random.default_rng(2).random((50, 50)) > posterior).astype(np.int32)
    rows = [share_scores(balanced(posterior), truth, WEIGHTS), share_scores(balanced(posterior), 1 - truth, WEIGHTS)]
    assert best_of(rows) == best_share([balanced(posterior)] * 2, [truth, 1 - truth], WEIGHTS)


@pytest.mark.parametrize("share", SHARES)
def test_volumes_are_scored_alike(share):
    posterior = np.random.default_rng(3).random((4, 6, 6))
    p = balanced(posterior)
    factors = np.array(WEIGHTS, np.float32).reshape(2, 1, 1, 1) ** -share
    truth = (p * factors).argmax(0).astype(np.int32)
    assert best_share([p], [truth], WEIGHTS) <= share
