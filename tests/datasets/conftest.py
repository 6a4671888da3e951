import numpy as np
import pytest
import tifffile


@pytest.fixture
def write_pair(tmp_path):
    """Write an image and its instance mask (two cells) under images/ and masks/ of a folder."""

    def write(name, *, shape=(32, 40), root=tmp_path, mask_shape=None, value=1, suffix=".tif"):
        image = np.arange(np.prod(shape)).reshape(shape) % 251
        mask = np.zeros(mask_shape or shape, np.uint16)
        mask[2:9, 3:9] = value
        mask[12:20, 12:30] = value * 2
        for folder, array in (("images", image.astype(np.uint8)), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / folder / f"{name}{suffix}", array)
        return root

    return write
