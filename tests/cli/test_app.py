"""What all commands share: help, exit codes, and where they speak."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from biounet import cli
from biounet.cli.app import make_app
from biounet.cli.console import Console
from biounet.errors import BiounetError, DataError, ModelFileError, PartialError, UsageError

COMMANDS = ["demo", "check", "train", "predict", "evaluate", "compare", "show", "export"]


def python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


def test_the_commands():
    assert [command.name for command in make_app().registered_commands] == COMMANDS


def test_help_imports_no_torch():
    code = """
import json, sys
from biounet.cli import run
codes = [run([])] + [run(arguments) for arguments in [["--help"], ["-h"], ["--version"]]]
codes += [run([name, "--help"]) for name in sys.argv[1:]]
heavy = [name for name in ("torch", "scipy", "skimage", "matplotlib", "cv2", "tifffile") if name in sys.modules]
sys.stderr.write(json.dumps([codes, heavy]))
"""
    done = python(code, *COMMANDS)
    codes, heavy = json.loads(done.stderr)
    assert codes == [2, 0, 0, 0] + [0] * len(COMMANDS)
    assert heavy == []
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_names_its_options(biounet, command):
    done = biounet(command, "--help")
    assert done.code == 0
    assert done.err == ""
    assert f"Usage: biounet {command}" in done.out
    assert "--json" in done.out


def test_the_version(biounet):
    done = biounet("--version")
    assert (done.code, done.out) == (0, f"biounet {version('biounet')}\n")


def test_no_command_shows_the_help(biounet):
    done = biounet()
    assert done.code == 2
    assert "Usage: biounet" in done.out + done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["train"], "Missing option '--out'"),
        (["show", "--frob"], "No such option: --frob"),
        (["train", "data"], "Missing option '--out'"),
        (["train", "data", "--out", "m", "--frob"], "No such option: --frob"),
        (["train", "data", "--out", "m", "--steps", "many"], "Invalid value for '--steps': .*integer"),
        (["train", "data", "--out", "m", "--seed", "-1"], "Invalid value for '--seed'"),
        (["check", "data", "--ndim", "4"], "Invalid value for '--ndim': .*3"),
        (["predict", "m", "--out", "o"], "Missing argument"),
        (["predict", "m", "i", "--out"], "--out"),
        (["evaluate", "a", "b", "--seed", "-3"], "Invalid value for '--seed'"),
    ],
)
def test_what_cannot_be_parsed(biounet, arguments, words):
    done = biounet(*arguments)
    assert done.code == 2
    assert re.search(words, done.complaint)
    command = "" if arguments[0] == "frobnicate" else f" {arguments[0]}"
    assert done.complaint.endswith(f"(see biounet{command} --help)")
    assert done.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BiounetError("no\nspace"), 1), (UsageError("no\nspace"), 2), (DataError("no\nspace"), 3),
        (ModelFileError("no\nspace"), 3), (PartialError("no\nspace"), 4), (KeyboardInterrupt(), 130),
        (RuntimeError("no\nspace"), 1),
    ],
)  # fmt: skip
def test_every_error_is_one_line_with_its_code(biounet, data, monkeypatch, error, code):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("biounet.checks.data.check_data", fail)
    done = biounet("check", data)
    assert done.code == code
    assert done.out == ""
    expected = {130: "interrupted"}.get(code, "no space")
    assert expected in done.complaint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_the_output_is_said_in_one_line():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "biounet", "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "biounet: what there is to say or to keep cannot be written: No space left on device; make room for it\n"
    )


def test_an_unexpected_error_says_how_to_see_more_and_then_shows_it(biounet, data, monkeypatch):
    monkeypatch.setattr("biounet.checks.data.check_data", lambda *_, **__: 1 / 0)
    assert biounet("check", data).complaint == "unexpected ZeroDivisionError: division by zero; -v shows where"
    with pytest.raises(ZeroDivisionError):
        cli.run(["check", str(data), "-v"])


def test_the_process_exits_with_the_code(data):
    for arguments, code in ((["check", data], 0), (["check", data / "gone"], 3), (["check"], 2)):
        done = subprocess.run([sys.executable, "-m", "biounet", *map(str, arguments)], capture_output=True, timeout=120)
        assert done.returncode == code, done.stderr


def test_importing_main_runs_nothing():
    """Workers that start by spawn import the main module again."""
    done = python("import biounet.__main__")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_closed_pipe_is_no_traceback(data):
    command = [sys.executable, "-m", "biounet", "check", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_file_names_of_any_bytes(tmp_path):
    """A name that is not UTF-8 is shown somehow, not with a crash of its own."""
    folder = (bytes(tmp_path) + b"/\xfcbersicht").decode("utf-8", "surrogateescape")
    code = "import sys; from biounet.cli import main; main(['check', sys.argv[1]])"
    done = python(code, folder)
    assert done.returncode == 3
    assert "there is no such folder" in done.stderr
    assert "bersicht" in done.stderr


# -- standard output and standard error


def test_json_is_all_there_is_on_standard_output(biounet, data):
    done = biounet("check", data, "--json")
    assert done.code == 0
    assert done.json["task"] == "instances"
    plain = biounet("check", data)
    assert plain.code == 0
    with pytest.raises(ValueError):
        json.loads(plain.out)


def test_names_are_shown_as_they_are(capsys):
    """Brackets are no markup, colons no pictures, and a pipe has no width."""
    console = Console()
    name = "stack[red] :smile: [/bold] " + "x" * 300
    console.note(name)
    console.warn(name)
    console.result(name)
    console.table("title [blue]", ["image [b]"], [[name]])
    out, err = capsys.readouterr()
    assert err == f"{name}\nwarning: {name}\n"
    assert out.splitlines()[0] == name
    assert out.splitlines()[1].rstrip() == "title [blue]"
    assert name in out.splitlines()[-2]


def test_colours_only_where_wanted(capsys, monkeypatch):
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Console().warn("in a pipe")
    assert "\x1b" not in capsys.readouterr().err
    monkeypatch.setenv("FORCE_COLOR", "1")
    Console().warn("on a terminal")
    assert colour.search(capsys.readouterr().err)
    monkeypatch.setenv("NO_COLOR", "1")
    Console().warn("on a terminal, without colours")
    assert not colour.search(capsys.readouterr().err)


def test_quiet_and_verbose(capsys):
    for verbosity, expected in ((-1, []), (0, ["note"]), (1, ["note", "more"]), (2, ["note", "more", "most"])):
        console = Console(verbosity=verbosity)
        for level, text in enumerate(("note", "more", "most")):
            console.note(text, level=level)
        assert capsys.readouterr().err.split() == expected
        console.result("result")
        console.warn("careful")
        assert capsys.readouterr() == ("result\n", "warning: careful\n")


def test_news_of_progress_are_for_terminals_and_for_who_asks(capsys, monkeypatch):
    Console().news("step 1")
    assert capsys.readouterr().err == ""
    Console(verbosity=1).news("step 1")
    assert capsys.readouterr().err == "step 1\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    Console().news("step 1")
    assert "step 1" in capsys.readouterr().err
    Console(verbosity=-1).news("step 1")
    assert capsys.readouterr().err == ""


def test_progress_shows_on_a_terminal_only(capsys, monkeypatch):
    def shown(**options):
        with Console(**options).progress("working", 3) as bar:
            bar.update(1, 3, "loss 0.5")
        out, err = capsys.readouterr()
        assert out == ""
        return "working" in err

    assert not shown()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert shown()
    assert not shown(verbosity=-1)


def test_no_infinity_in_json():
    with pytest.raises(ValueError, match="Out of range"):
        Console(as_json=True).finish({"score": float("nan")})
