"""What the pages tell people to type is run (Python) or parsed (commands)."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from biounet.cli.app import make_app
from biounet.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def python_blocks():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in FENCE.finditer(text):
            if block[1] == "python":
                line = text.count("\n", 0, block.start()) + 2
                yield pytest.param(page, line, block[2], id=f"{page.name}:{line}")


def command_lines(text):
    """Lines of indented and fenced blocks that call biounet, without a prompt."""
    fenced = [line for block in FENCE.finditer(text) if block[1] != "python" for line in block[2].splitlines()]
    indented = re.findall(r"^    (.*)$", FENCE.sub("", text), re.MULTILINE)
    stripped = (line.strip().removeprefix("$ ") for line in [*indented, *fenced])
    return [line for line in stripped if line.startswith("biounet ")]


def inline_commands(text):
    """Commands named in running text, which may be truncated."""
    return [span for span in SPAN.findall(FENCE.sub("", text)) if span.startswith("biounet ")]


def options_of(command):
    return {option for p in command.params for option in [*p.opts, *p.secondary_opts] if option.startswith("-")}


def check_options(line):
    """The command exists, and takes every option that the line names."""
    _, *words = shlex.split(line)
    app = get_command(make_app())
    known = {"--help", "-h"}
    if words[0].startswith("-"):
        assert set(words) <= options_of(app) | known, line
        return None
    if words[0] == "COMMAND":  # stands for any
        words, commands = words[1:], list(app.commands.values())
    else:
        assert words[0] in app.commands, line
        words, commands = words[1:], [app.commands[words[0]]]
    named = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert all(named <= options_of(command) | known for command in commands), line
    network = dict(itertools.pairwise(words)).get("--network")
    for key in (words[i + 1] for i, word in enumerate(words) if word == "--set" and i + 1 < len(words)):
        if key != "KEY=VALUE":
            read_settings(overrides=[key], values={"network.name": network})
    return commands[0] if len(commands) == 1 else None


@pytest.mark.parametrize(("page", "line", "code"), list(python_blocks()))
def test_a_python_block_runs(page, line, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # blank lines before it, so that a traceback shows the page's own line
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), {"__name__": "__main__"})


def test_the_readme_has_blocks_and_commands():
    assert sum(1 for _ in python_blocks()) >= 8
    assert len(command_lines((ROOT / "README.md").read_text(encoding="utf-8"))) >= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page):
    text = page.read_text(encoding="utf-8")
    for line in inline_commands(text):
        check_options(line)
    for line in command_lines(text):
        command = check_options(line)
        if command is not None and "--help" not in line:
            command.make_context(command.name, shlex.split(line)[2:])  # raises where something is missing or wrong


@pytest.mark.parametrize(
    "line",
    [
        "biounet trian DATA --out m.safetensors",
        "biounet train DATA --out m.safetensors --epochs 3",
        "biounet evaluate A B --out there",
        "biounet --versoin",
        "biounet train DATA --set network.widht=3",
    ],
)
def test_a_wrong_command_is_noticed(line):
    with pytest.raises((AssertionError, ValueError)):
        check_options(line)


def test_a_command_without_what_it_needs_is_noticed():
    command = check_options("biounet train DATA")
    with pytest.raises(Exception, match="Missing parameter: out"):
        command.make_context("train", ["DATA"])


def test_commands_are_found_in_every_kind_of_block():
    text = "Use `biounet demo` or\n\n    $ biounet check A\n\n```text\nbiounet show B\n```\n\n    biounet: an error\n"
    assert command_lines(text) == ["biounet check A", "biounet show B"]
    assert inline_commands(text) == ["biounet demo"]
