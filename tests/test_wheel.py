"""What users get: the built wheel, installed where the source is not, runs the demo."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA_FILES = {"biounet/py.typed", "biounet/report/page.html", "biounet/report/page.css", "biounet/report/page.js"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source; without the network where hatchling is here."""
    pytest.importorskip("build", reason="needs the package build: pip install -e .[dev]")
    out = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    command = [sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new environment that sees this one's packages, with biounet from the wheel; its folder of programs."""
    folder = tmp_path_factory.mktemp("neue Umgebung")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=300)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    # a line of a .pth file comes after the environment's own packages, and .pth files there are not read
    Path(site.strip(), "packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python.parent


def run(program, *arguments, cwd):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, timeout=600, cwd=cwd, env=clean
    )


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    source = {str(path.relative_to(ROOT / "src").as_posix()) for path in (ROOT / "src" / "biounet").rglob("*.py")}
    assert source | DATA_FILES <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"biounet"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name.lower()]


def test_biounet_comes_from_the_wheel(environment, tmp_path):
    code = "import biounet, torch, json; print(json.dumps([biounet.__file__, torch.__file__]))"
    done = run(environment / "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = json.loads(done.stdout)
    assert Path(ours).is_relative_to(environment.parent)
    assert not Path(theirs).is_relative_to(environment.parent)


def test_the_demo_of_the_wheel(environment, tmp_path):
    out = tmp_path / "eine Vorführung"
    done = run(environment / "biounet", "demo", "--budget", "10s", "--out", out, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert Path(found["report"]) == out / "report.html"
    assert f"{found['scores']['seg']:.3f}" in page
    assert (out / "prediction" / "unseen_labels.tif").exists()
    assert run(environment / "biounet", "check", out / "model.safetensors", cwd=tmp_path).returncode == 0
