"""A .pt2 is vetted before torch sees it: nothing in it is unpickled, and no text of it is run as code."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from biounet.checks.model import check_model
from biounet.errors import ModelFileError
from biounet.inference.export import export_torch
from biounet.inference.exported import open_model, program_digest
from biounet.inference.torch_program import _is_arithmetic, _vet, add_passport, load_program, read_archive
from biounet.model_file import make_passport

GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def program(kept, saved_model, tmp_path):
    """A model and its export, made once: torch takes its time."""
    if not kept:
        model = saved_model(depth=1)
        kept["model"], kept["made"] = model, export_torch(model)
    path = tmp_path / "model.pt2"
    path.write_bytes(kept["made"].files["model.pt2"])
    return kept["model"], path


def test_it_predicts_and_proves_itself(program):
    model, path = program
    check = check_model(path)
    assert (check.passed, check.engine) == (True, "torch")
    opened = open_model(path)
    size = model.geometry.input_size((21, 30))
    batch = np.random.default_rng(0).standard_normal((3, 1, *size)).astype(np.float32)
    from biounet.inference.engines import choose_engine, make_engine

    choice = choose_engine(opened, device="cpu")
    assert (choice.engine.name, choice.agreement.is_exact) == ("torch", True)
    assert np.abs(choice.engine(batch) - make_engine(model, engine="torch", device="cpu")(batch)).max() < 1e-5


def test_it_holds_no_pickle_and_no_path(program):
    members, passport = read_archive(program[1])
    assert passport
    assert members["data/sample_inputs/model.pt"] == b""
    assert not any(b"site-packages" in data or b".py" in data for data in members.values())
    with zipfile.ZipFile(program[1]) as archive:
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def rewritten(path, model, change):
    """The archive after a change, with a passport that fits it: as somebody who means harm would write it."""
    members, _ = read_archive(path)
    change(members)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"x/{name}", data)
    path.write_bytes(packed.getvalue())
    path.write_bytes(add_passport(path, make_passport(model, program_digest(members))))


class Bomb:
    def __reduce__(self):
        return (exec, ("import builtins; builtins.it_went_off = True",))


def in_json(name, place, value):
    def change(members):
        content = json.loads(members[name])
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        members[name] = json.dumps(content).encode()

    return change


def with_member(name, data):
    return lambda members: members.update({name: data})


NODE = ("graph_module", "graph", "nodes", 0)
SIZE = ("graph_module", "graph", "tensor_values", "x", "sizes", 2, "as_expr", "expr_str")
GOES_OFF = "__import__('builtins').__setattr__('it_went_off', True)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_member("data/sample_inputs/model.pt", pickle.dumps(Bomb())), "an example input, which is a pickle"),
        (with_member("data/constants/custom_obj_0", pickle.dumps(Bomb())), "which no network needs"),
        (with_member("data/aotinductor/model/a.so", b"code"), "which no network needs"),
        (with_member("data/weights/model.pt", pickle.dumps(Bomb())), "which no network needs"),
        (in_json(WEIGHTS, ("config", "head.weight", "use_pickle"), True), "is a pickle or a custom object"),
        (
            in_json(WEIGHTS, ("config", "head.weight", "path_name"), "../../../etc/passwd"),
            "a pickle or a custom object",
        ),
        (in_json(GRAPH, ("guards_code",), [GOES_OFF]), "guards, which are code"),
        (in_json(GRAPH, (*NODE, "target"), "torch.os.system"), "target 'torch.os.system'"),
        (in_json(GRAPH, (*NODE, "target"), "torch.ops.aten.__class__.mro"), "target"),
        (in_json(GRAPH, (*NODE, "target"), "_operator.methodcaller"), "target"),
        (in_json(GRAPH, (*NODE, "name"), "x;import os"), "name 'x;import os'"),
        (in_json(GRAPH, SIZE, GOES_OFF), "expr_str"),
        (in_json(GRAPH, SIZE, "Symbol('s77', positive=True).__class__"), "expr_str"),
    ],
)
def test_what_could_run_is_refused(program, change, words):
    import builtins

    model, path = program
    rewritten(path, model, change)
    with pytest.raises(ModelFileError, match=words):
        load_program(open_model(path))
    assert not hasattr(builtins, "it_went_off")


def test_the_bomb_would_go_off():
    """So that the tests above can fail."""
    import builtins

    pickle.loads(pickle.dumps(Bomb()))
    assert builtins.it_went_off
    del builtins.it_went_off


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("Add(Mul(Integer(2), Symbol('s12', positive=True, integer=True)), Integer(-4))", True),
        ("2*s64 + 28", True),
        ("s12 // 2 - 1", True),
        ("9**9**9", False),
        ("open('x')", False),
        ("Symbol.mro()", False),
        ("[s0 for s0 in s1]", False),
        ("Symbol('a b')", False),
        ("lambda: 1", False),
        ("(" * 500, False),
        ("s1 and os", False),
    ],
)
def test_which_expressions_are_arithmetic(text, harmless):
    assert _is_arithmetic(text) is harmless


def test_a_damaged_archive(program):
    model, path = program
    data = path.read_bytes()
    for cut in (0, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:cut])
        with pytest.raises(ModelFileError, match=r"model\.pt2: cannot be read as an exported model"):
            open_model(path)
    path.write_bytes(data)
    rewritten(path, model, lambda members: members.pop(WEIGHTS))
    with pytest.raises(ModelFileError, match=r"model\.pt2: cannot be loaded by torch .*export it again"):
        load_program(open_model(path))
    members, _ = read_archive(path)
    with pytest.raises(KeyError):
        _vet(members)
