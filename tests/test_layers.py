"""The rules of the house: who may know whom, what imports no torch, and that public things say what they are."""

import ast
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import biounet

ROOT = Path(biounet.__file__).parent
MODULES = sorted(name for _, name, _ in pkgutil.walk_packages([str(ROOT)], "biounet."))

CONTRIBUTING = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def allowed_by(table):
    """Each room of a table in markdown with the rooms it may import from, besides itself."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \|([^|]*)\|$", table, re.MULTILINE)
    rooms, allowed = {room for room, _ in rows}, {}
    for room, text in rows:
        named = set(re.findall(r"`(\w+)`", text))
        if "all but" in text:
            named = rooms - named
        if like := re.match(r" what `(\w+)` may", text):
            named |= allowed[like[1]]
        allowed[room] = named - {room}
    return allowed


ALLOWED = allowed_by(CONTRIBUTING) | {"__main__": {"cli"}}
_LISTED = re.search(r"these import no torch[^:]*:(.*?)\. Public", CONTRIBUTING, re.DOTALL)
WITHOUT_TORCH = re.findall(r"`([\w.]+)`", _LISTED[1])


def room_of(module):
    """The room of biounet.room.file, or of biounet.file."""
    return module.split(".")[1]


def path_of(module):
    path = ROOT.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(module):
    """Every biounet module that this one imports, wherever in the file."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "biounet"}


def test_every_room_has_its_place():
    assert {room_of(module) for module in MODULES} == set(ALLOWED)


def test_the_arrows_have_no_circle():
    left = dict(ALLOWED)
    while left:
        free = [room for room, others in left.items() if not others & set(left)]
        assert free, f"a circle among {sorted(left)}"
        left = {room: others for room, others in left.items() if room not in free}


@pytest.mark.parametrize("module", MODULES)
def test_rooms_import_only_from_rooms_below(module):
    room = room_of(module)
    for name in imported(module):
        assert name != "biounet", f"{module}: import the module, not the package"
        assert room_of(name) in ALLOWED[room] | {room}, f"{module} imports {name}"


def test_the_test_of_arrows_can_fail():
    assert "biounet.images.writing.whole_file" in imported("biounet.model_file")
    assert "biounet.prediction.run_request.run_request" in imported("biounet.api")  # inside a function
    assert "model_file" not in ALLOWED["images"]


def modules_without_torch():
    named = {f"biounet.{name}" for name in WITHOUT_TORCH}
    rooms = [module for module in MODULES if f"biounet.{room_of(module)}" in named]
    return ["biounet", *sorted(named), *rooms]


def test_no_torch_is_imported():
    """One process imports them one after the other and tells the first that brought torch along."""
    code = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(name + ' imports torch')"
    )
    names = modules_without_torch()
    assert len(names) > 100
    assert {"biounet.images.tiff", "biounet.evaluation.rand", "biounet.cli.app"} <= set(names)
    done = subprocess.run([sys.executable, "-c", code, json.dumps(names)], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [sys.executable, "-c", code, '["biounet.training.loss"]'], capture_output=True, text=True, timeout=300
    )
    assert done.stderr == "biounet.training.loss imports torch\n"  # so the check can fail


def test_importing_torch_is_the_engines_business():
    """Where torch is missing a model file can still be read and described."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import biounet\n"
        "from biounet import model_file, cli\n"
        "import biounet.inference.engines, biounet.prediction.predict\n"
        "sys.exit(cli.run(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


# -- public names


def test_every_public_name_is_there():
    assert len(biounet.__all__) > 30
    assert biounet.__all__ == sorted(set(biounet.__all__))
    assert dir(biounet) == biounet.__all__
    for name in biounet.__all__:
        assert getattr(biounet, name) is not None
    for name in ("train", "load", "predict", "evaluate", "check", "export", "UNet", "border_weights"):
        assert callable(getattr(biounet, name))
    with pytest.raises(AttributeError, match="module 'biounet' has no attribute 'trian'"):
        biounet.trian  # noqa: B018


def test_the_version_is_that_of_the_installed_package():
    assert biounet.__version__ == version("biounet")


def test_a_public_name_is_the_thing_of_that_name():
    for name in biounet.__all__:
        value = getattr(biounet, name)
        assert value.__name__.rpartition(".")[2] == name


def public(module):
    """Functions and classes defined in a module whose names have no underscore, and the methods of these."""
    for name, value in vars(import_module(module)).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module:
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value
        if inspect.isclass(value):
            for inner, method in vars(value).items():
                function = getattr(method, "fget", None) or getattr(method, "__func__", method)
                if not inner.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{inner}", function


@pytest.mark.parametrize("module", ["biounet", *MODULES])
def test_public_things_have_a_docstring(module):
    if module == "biounet.__main__":
        pytest.skip("importing it is tested with the command line")
    assert import_module(module).__doc__, f"{module} has no text at its top"
    missing = [name for name, value in public(module) if not own_docstring(value)]
    assert not missing, f"{module}: {', '.join(missing)} without a docstring"


def own_docstring(value):
    """What the source says; dataclasses write a text of their own where there is none, models inherit one."""
    text = value.__doc__ or ""
    inherited = value.__mro__[1].__doc__ if inspect.isclass(value) else None
    return bool(text) and text != inherited and not text.startswith(f"{value.__name__}(")


# -- the shape of the code


def functions():
    for module in MODULES:
        tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield module, node


def test_files_and_functions_fit_the_eye():
    for module in MODULES:
        lines = path_of(module).read_text(encoding="utf-8").count("\n")
        assert lines <= 400, f"{module} has {lines} lines"
    long = [f"{m}.{n.name}" for m, n in functions() if n.end_lineno - n.lineno + 1 > 70]
    assert not long, f"longer than 70 lines: {long}"


def test_only_the_command_line_prints_or_exits():
    speaking = {"print", "exit", "quit", "sys.exit", "sys.stdout.write", "sys.stderr.write"}
    found = {}
    for module in MODULES:
        tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
        found[module] = speaking & {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert found["biounet.cli"] == {"sys.exit", "sys.stderr.write"}
    assert {module for module, calls in found.items() if calls} == {"biounet.cli", "biounet.cli.console"}


def test_nothing_reads_the_environment_or_seeds_globally():
    forbidden = ("os.environ", "os.getenv", "np.random.seed", "random.seed", "numpy.random.seed")
    allowed = {
        "biounet.cli": (
            'os.environ.setdefault("GOMP_SPINCOUNT", "20000")',  # how long idle threads spin, which changes no result
            'os.environ.get("RANK", "0")',  # by which launchers number the processes that they start
        ),
        "biounet.training.together": tuple(f"os.environ.get({word}" for word in ("_RANK", "_SIZE", "_LOCAL_RANK")),
        "biounet.training.processes": ("os.environ.update(given",),  # tells them the same way
    }
    for module in MODULES:
        text = path_of(module).read_text(encoding="utf-8")
        for words in allowed.get(module, ()):
            assert words in text
            text = text.replace(words, "")
        for words in forbidden:
            assert words not in text, f"{module} has {words}"


def test_nothing_is_left_undone():
    for module in MODULES:
        text = path_of(module).read_text(encoding="utf-8")
        for words in ("TODO", "FIXME", "XXX", "NotImplementedError"):
            assert words not in text, f"{module} has {words}"
