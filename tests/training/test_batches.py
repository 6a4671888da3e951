import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from biounet.errors import BiounetError
from biounet.samples.sampler import Sampler
from biounet.training.batches import batches

_KILLED_PARENT = """
import multiprocessing, os, signal, sys
import numpy as np
from biounet.samples.sampler import Sampler
from biounet.training.batches import batches

if __name__ == "__main__":
    image, labels = np.zeros((1, 20, 20), np.float32), np.eye(20, dtype=np.int32)
    sampler = Sampler((image,), (labels,), (12, 12), (8, 8), (2, 2))
    stream = batches(sampler, seed=0, samples=(0, 1), first=0, stop=99, workers=1)
    next(stream)
    worker = multiprocessing.active_children()[0].pid
    os.kill(worker, signal.SIGINT)  # as Ctrl-C on a terminal, which reaches every process
    os.kill(worker, signal.SIGTERM)
    print(worker, len([next(stream) for _ in range(5)]), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def sampler():
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 40, 40)).astype(np.float32)
    labels = np.zeros((40, 40), np.int32)
    labels[5:20, 5:20], labels[20:35, 5:20] = 1, 2
    return Sampler((image,), (labels,), (24, 24), (16, 16), (4, 4))


def test_batches_are_those_of_the_sampler_in_order(sampler):
    made = list(batches(sampler, seed=3, samples=(0, 2), first=5, stop=12))
    assert len(made) == 7
    for step, batch in enumerate(made, start=5):
        for array, expected in zip(batch, sampler.batch(3, step, 2), strict=True):
            assert np.array_equal(array, expected)


def test_parts_of_a_batch_are_the_batch(sampler):
    parts = [list(batches(sampler, seed=3, samples=(first, 2), first=5, stop=8)) for first in (0, 2)]
    for step, both in enumerate(zip(*parts, strict=True), start=5):
        for *pieces, whole in zip(*both, sampler.batch(3, step, 4), strict=True):
            assert np.array_equal(np.concatenate(pieces), whole)


def test_processes_make_the_same_batches_bit_for_bit(sampler):
    options = {"seed": 1, "samples": (0, 2), "first": 2, "stop": 9}
    for alone, beside in zip(batches(sampler, **options), batches(sampler, workers=2, **options), strict=True):
        for a, b in zip(alone, beside, strict=True):
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("first", "stop"), [(4, 4), (7, 4)])
def test_nothing_is_made_where_no_step_is_left(sampler, first, stop):
    assert list(batches(sampler, seed=0, samples=(0, 1), first=first, stop=stop)) == []


def test_closing_early_ends_the_thread(sampler):
    stream = batches(sampler, seed=0, samples=(0, 1), first=0, stop=1000)
    next(stream)
    assert [t for t in threading.enumerate() if t.name.startswith("samples")]
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("samples")]


def test_a_worker_that_dies_is_one_clear_line_and_closing_early_ends_the_others(sampler):
    stream = batches(sampler, seed=0, samples=(0, 1), first=0, stop=1000, workers=1)
    next(stream)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(BiounetError, match="one of 1 processes that make samples died.*training.workers=0"):
        list(stream)
    assert not multiprocessing.active_children()


def test_an_error_in_the_sampler_comes_through(sampler):
    broken = Sampler(sampler.images, sampler.labels, (24, 24), (16, 16), (4, 4), class_weights=(1.0, 1.0))
    object.__setattr__(broken, "images", ())
    with pytest.raises(IndexError):
        next(batches(broken, seed=0, samples=(0, 1), first=0, stop=2))


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to processes on Windows")
def test_workers_leave_signals_to_the_training_and_end_when_it_is_killed(tmp_path):
    script = tmp_path / "killed_parent.py"
    script.write_text(_KILLED_PARENT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    worker, made = map(int, done.stdout.split())
    assert made == 5
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} outlived the killed training")
