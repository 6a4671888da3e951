"""What the container files name is there, and the program runs as they run it: any user, no home, no network."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biounet.model_file import save_model

ROOT = Path(__file__).resolve().parents[1]
DOCKER = (ROOT / "Dockerfile").read_text(encoding="utf-8")
APPTAINER = (ROOT / "apptainer.def").read_text(encoding="utf-8")


def copied_by_docker():
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKER, re.MULTILINE)
    return {name for line in lines for name in line.split()[:-1]}


def copied_by_apptainer():
    block = re.search(r"^%files\n((?:    .*\n)+)", APPTAINER, re.MULTILINE)[1]
    return {line.split()[0] for line in block.splitlines()}


def test_what_is_copied_is_there_and_enough_to_install():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {"pyproject.toml", "constraints.txt", "src", project["readme"], *project["license-files"]}
    assert copied_by_docker() == copied_by_apptainer() == needed
    assert all((ROOT / name).exists() for name in needed)
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_through == needed


@pytest.mark.parametrize("text", [DOCKER, APPTAINER], ids=["Dockerfile", "apptainer.def"])
def test_extras_exist_and_caches_lie_under_tmp(text):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.search(r"'\.\[([\w,]+)\]'", text)[1].split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        assert re.search(rf"{name}=(\$\{{{name}:-)?/tmp/", text), name


def test_a_user_without_name_home_and_network(tmp_path, random_model):
    """In a user namespace of its own, where it is nobody that the system knows, and without any network."""
    unshare = shutil.which("unshare")
    alone = [unshare or "", "--user", "--map-user=54321", "--net"]
    if unshare is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("user namespaces cannot be had here")
    save_model(tmp_path / "m.safetensors", random_model())
    tifffile.imwrite(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 4000, (40, 50)).astype(np.uint16))
    place = tmp_path / "nowhere"
    place.mkdir()
    environment = {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    words = ["predict", tmp_path / "m.safetensors", tmp_path / "a.tif", "--out", tmp_path / "out"]
    done = subprocess.run(
        [*alone, sys.executable, "-m", "biounet", *map(str, words)],
        capture_output=True, text=True, env=environment, cwd=place, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a_labels.tif").is_file()
    assert not list(place.iterdir())  # no folder called ~
