import numpy as np
import pytest


@pytest.fixture
def crowded():
    """Labels with holes, touching objects, diagonal contacts and objects in parts; ids with gaps."""
    labels = np.random.default_rng(0).integers(0, 4, (24, 31)).astype(np.int32) * 3
    labels[2:14, 3:15] = 12
    labels[5:8, 5:8] = 0
    labels[9:11, 8:10] = 6
    labels[16:22, 20:29] = 70
    return labels
