import numpy as np
import pytest

from biounet.errors import UsageError
from biounet.inference.agreement import compare


def logits(values):
    """Two classes of pixels in a row, (1, 2, n)."""
    return np.array([values], np.float32)


def test_differences_are_shares_of_the_largest_logit():
    expected, found = logits([[4, -1], [0, 1]]), logits([[4, 1], [0, 0.5]])
    agreement = compare([expected], [found], "two pixels")
    assert (agreement.difference, agreement.labels, agreement.pixels) == (0.5, 0.5, 2)
    assert compare([expected], [expected], "two pixels").is_exact


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("first", [True, False])
def test_numbers_that_are_not_finite_are_infinitely_far_off_in_any_batch(bad, first):
    good, damaged = logits([[4, -1], [0, 1]]), logits([[4, -1], [bad, 1]])
    batches = [damaged, good] if first else [good, damaged]
    for expected, found in (([good, good], batches), (batches, [good, good]), (batches, batches)):
        agreement = compare(expected, found, "four pixels")
        assert (agreement.difference, agreement.labels, agreement.pixels) == (np.inf, 0.75, 4)
        assert not agreement.is_exact


def test_logits_of_another_shape_are_refused():
    for found in (np.zeros((1, 3, 2), np.float32), np.zeros((1, 1, 2), np.float32), np.zeros((1, 2, 5), np.float32)):
        with pytest.raises(UsageError, match="logits of 1x[123]x[25] in place of 1x2x2 \\(samples, classes, pixels\\)"):
            compare([logits([[4, -1], [0, 1]])], [found], "two pixels")
