"""A process that is killed again and again, and a disk that is full: the files of one run without all that."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from biounet.errors import BiounetError
from biounet.model_file import save_model
from biounet.results.request import Request

SHAPE = (150, 170)
SAVE = ["--save", "labels,probabilities,overlay", "--engine", "torch", "--device", "cpu"]
# resource limits are set in the process itself, before anything is computed
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from biounet import cli
sys.exit(cli.run(sys.argv[2:]))
"""


@pytest.fixture
def files(tmp_path, random_model, image_of):
    save_model(tmp_path / "m.safetensors", random_model(3, "instances", depth=1))
    tifffile.imwrite(tmp_path / "a.tif", image_of(SHAPE))
    return [str(tmp_path / "m.safetensors"), str(tmp_path / "a.tif")]


def command(files, out, *more):
    # all of the image as its region: small as it is, it goes block by block
    return [*files, "--out", str(out), "--tile", "16", "--region", files[1], *SAVE, *more]


def process(code, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def results(folder):
    assert not list(folder.glob(".*"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "a_labels.tif", "a_overlay.png", "a_probabilities.tif", "report.html", "run.json"
    ]  # fmt: skip
    pixels = [tifffile.imread(folder / f"a_{kind}.tif").tobytes() for kind in ("labels", "probabilities")]
    return [*pixels, (folder / "a_overlay.png").read_bytes()]


def finished(running):
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, err
    return out, err


def blocks_in(folder):
    return sum(1 for _ in folder.rglob("*.block"))


def kill_at(running, folder, count):
    """SIGKILL when so many blocks are there; how many are left behind."""
    for _ in range(20_000):
        if blocks_in(folder) >= count:
            break
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL
    return blocks_in(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_three_times_the_same_command_ends_with_the_same_files(files, tmp_path):
    run = ["-m", "biounet", "predict"]
    finished(process(run, *command(files, tmp_path / "one")))
    out, rng, there = tmp_path / "killed", np.random.default_rng(), 0
    tiles = 10 * 11
    for _ in range(3):
        moment = there + int(rng.integers(1, tiles // 4))
        there = kill_at(process(run, *command(files, out)), out, moment)
        assert [path.name for path in out.iterdir()] == [".a.blocks"]  # no result before it is complete
    _, err = finished(process(run, *command(files, out)))
    assert f"of {tiles} tiles are there already" in err
    assert results(out) == results(tmp_path / "one")


def test_a_full_disk_gives_one_line_and_loses_nothing(files, tmp_path):
    """Files of at most so many bytes: tiles and labels can be written, probabilities of the whole image cannot."""
    pytest.importorskip("resource")
    out = tmp_path / "out"
    running = process(["-c", LIMITED], "12000", "predict", *command(files, out))
    _, err = running.communicate(timeout=240)
    last = err.splitlines()[-1]
    assert running.returncode == 1, err
    assert last.startswith("biounet: ")
    assert "cannot be written (File too large); free space or choose another folder" in last
    assert "a_probabilities.tif" in last
    assert "Traceback" not in err
    assert {path.name for path in out.iterdir()} == {".a.blocks", "a_labels.tif"}
    labels = (out / "a_labels.tif").read_bytes()
    assert not [path for path in out.rglob("*") if ".part." in path.name]
    _, err = finished(process(["-m", "biounet"], "predict", *command(files, out)))
    assert "110 of 110 tiles are there already" in err
    results(out)
    assert (out / "a_labels.tif").read_bytes() == labels


def test_a_disk_that_is_full_half_way(model, tmp_path, by_blocks, image_of, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", image_of(SHAPE))
    request, made, calls, replace = Request(tmp_path / "out", tile=20), model(), [], os.replace

    def full(source, target):
        calls.append(target)
        if len(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(BiounetError, match=r"cannot be written \(No space left on device\); free space or choose"):
            by_blocks(made, tmp_path / "a.tif", request)
    kept = {path: path.stat().st_mtime_ns for path in request.out.rglob("tiles/*.block")}
    assert len(kept) > 15
    seen = []
    monkeypatch.setattr(os, "replace", lambda source, target: (seen.append(target), replace(source, target)))
    _, lines = by_blocks(made, tmp_path / "a.tif", request)
    assert f"{len(kept)} of 72 tiles are there already" in " ".join(lines)
    assert not set(kept) & set(seen)
