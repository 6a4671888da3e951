"""What a tile leaves, and what is read of it."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from biounet.images.regions import open_regions
from biounet.inference.engines import make_engine
from biounet.inference.memory import Budget, process_bytes
from biounet.prediction import block_store
from biounet.prediction.blocks import open_jobs
from biounet.prediction.made_by import targets as targets_of
from biounet.results.request import Request


@pytest.mark.parametrize(("save", "kept", "dtype"), [("probabilities", "probabilities", np.float32),
                                                     ("labels", "weights", np.uint16)])  # fmt: skip
def test_one_channel_is_read_without_the_others(model, tmp_path, image_of, monkeypatch, save, kept, dtype):
    tifffile.imwrite(tmp_path / "a.tif", image_of((40, 50)))
    made = model(classes=3)
    engine = make_engine(made, engine="torch", device="cpu")
    targets = targets_of(made, engine, Request(tmp_path, save=(save,), tile=20))
    budget = Budget(4 << 30, process_bytes())
    with open_regions(tmp_path / "a.tif") as regions:
        ((job, _),) = open_jobs(made, engine, regions, targets, folder=tmp_path / "blocks", budget=budget)
        job.compute(job.wanted)
        unpacked, read = block_store._unpacked, []

        def noted(data, entry):
            read.append(tuple(entry["shape"]))
            return unpacked(data, entry)

        monkeypatch.setattr(block_store, "_unpacked", noted)
        channels = [job.read_channel(kept, channel, (0, 0), (40, 50)) for channel in range(3)]
        assert sum(map(np.prod, read)) == 3 * 40 * 50
        assert all(channel.dtype == dtype for channel in channels)
        monkeypatch.undo()
        if kept == "probabilities":
            np.testing.assert_allclose(sum(channels), 1, rtol=1e-5)
        again = replace(job)  # nothing of it is held
        np.testing.assert_array_equal(again.read_channel(kept, 1, (3, 5), (33, 44)), channels[1][3:33, 5:44])
