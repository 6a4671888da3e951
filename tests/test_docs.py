"""The pages and the code agree: names, links, generated pages, options, and the rooms of the house."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from biounet.cli.app import make_app
from biounet.inference.export import EXPORTERS
from biounet.results.request import SAVED
from biounet.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "biounet"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(r"`([\w./]+\.py)::([\w.]+)`")
COMMON = {"--json", "--quiet", "-q", "--verbose", "-v"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def read(page):
    return page.read_text(encoding="utf-8")


def without_fences(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def defined_names(path):
    """Functions, classes, methods and module-level variables of a source file."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def missing_names(text):
    found = [(path, name) for path, name in NAMED.findall(text)]
    return [
        f"{path}::{name}"
        for path, name in found
        if not (ROOT / path).is_file() or name not in defined_names(ROOT / path)
    ]


@each_page
def test_every_name_in_the_docs_exists(page):
    assert missing_names(read(page)) == []


def test_a_name_that_does_not_exist_is_noticed():
    text = "`src/biounet/geometry.py::Geometry.output_size` `src/biounet/geometry.py::wrong` `src/no.py::f`"
    assert missing_names(text) == ["src/biounet/geometry.py::wrong", "src/no.py::f"]


def test_the_page_on_the_paper_names_code_and_tests_of_every_equation():
    named = NAMED.findall(read(ROOT / "docs" / "explanation" / "paper_to_code.md"))
    assert len({name for path, name in named if path.startswith("tests/")}) >= 50
    parts = {"UNet", "predict_tiled", "mirrored", "weighted_cross_entropy", "border_weights", "class_weights"}
    parts |= {"weight_map", "he_initialise", "displacement_field", "warping_error"}
    assert parts <= {name for _, name in named}


@each_page
def test_every_test_named_without_its_file_exists(page):
    all_tests = set().union(*(defined_names(path) for path in (ROOT / "tests").rglob("test_*.py")))
    named = re.findall(r"`(test_\w+)`", read(page))
    assert [name for name in named if name not in all_tests] == []


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_fences(read(page))):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+://", target):
            continue
        linked = (page.parent / path).resolve() if path else page
        headings = re.findall(r"^#+ (.*)$", read(linked), re.MULTILINE) if linked.suffix == ".md" and anchor else []
        if not linked.exists() or (anchor and anchor not in map(slug, headings)):
            yield target


@each_page
def test_links_lead_somewhere(page):
    assert list(broken_links(page)) == []


def test_a_broken_link_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n[a](page.md) [b](other.md) [c](#a-page) [d](#no) [e](https://example.org/x)\n")
    assert list(broken_links(page)) == ["other.md", "#no"]


@each_page
def test_paths_and_targets_in_commands_exist(page):
    text = read(page)
    for line in re.findall(r"python -m pytest ([^`\n]*)", text):
        assert [word for word in line.split() if word.startswith("tests/") and not (ROOT / word).exists()] == []
    phony = re.search(r"^\.PHONY: (.*)$", read(ROOT / "Makefile"), re.MULTILINE)
    targets = re.findall(r"(?:^    |`)make (?:PYTHON=\S+ )?([a-z-]+)", without_fences(text), re.MULTILINE)
    assert set(targets) <= set(phony[1].split())


def reference_script():
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date():
    """After a change of a signature, a docstring or a setting: make docs."""
    for path, text in reference_script().pages().items():
        assert read(path) == text, f"{path.name} is out of date: make docs"


def test_what_the_examples_import_is_in_the_reference():
    blocks = [block for page in PAGES for block in re.findall(r"^```python\n(.*?)^```", read(page), re.M | re.S)]
    imports = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    used = {f"{n.module}.{name.name}" for n in imports if n.module.startswith("biounet.") for name in n.names}
    assert used == {f"biounet.{path}" for path in reference_script().IN_EXAMPLES}


def test_every_setting_has_a_meaning():
    rows = re.findall(r"^\| `(.+?)` .* \| (.*?) ?\|$", read(ROOT / "docs" / "reference" / "settings.md"), re.MULTILINE)
    assert len(rows) > 45
    assert [key for key, meaning in rows if not meaning] == []


def test_the_file_of_settings_on_the_page_can_be_read(tmp_path):
    (tmp_path / "settings.toml").write_text(reference_script().EXAMPLE)
    settings = read_settings("standard", file=tmp_path / "settings.toml")
    assert (settings.network.width, settings.augmentation.scale) == (32, (0.8, 1.25))
    assert settings.data.normalisation == "percentile"


def witnesses():
    """Rows of the page of formats: cells of what was written, by whom it was read, and the tests named."""
    for row in re.findall(r"^\|(.*)\|$", read(ROOT / "docs" / "reference" / "outputs.md"), re.MULTILINE):
        cells = [cell.strip() for cell in row.split("|")]
        if tests := NAMED.findall(cells[-1]):
            yield cells[:-3], re.findall(r"`(\w+)`", cells[-3]), tests


def test_each_witness_is_in_the_test_that_the_page_names():
    rows = list(witnesses())
    assert len(rows) > 20
    for _, programs, tests in rows:
        assert programs
        for path, _ in tests:
            assert [name for name in programs if not re.search(rf"\b{name}\b", read(ROOT / path))] == [], path


def test_every_format_has_a_witness():
    written = {word for what, *_ in witnesses() for word in re.findall(r"`([\w.-]+)`", " ".join(what))}
    assert set(SAVED) | set(EXPORTERS) <= written


def sections(text):
    """Text under each heading of the second level."""
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", sorted(get_command(make_app()).commands))
def test_the_page_on_the_command_line_has_every_option_and_no_other(name):
    command = get_command(make_app()).commands[name]
    taken = {o for p in command.params for o in [*p.opts, *p.secondary_opts] if o.startswith("-")}
    parts = sections(read(ROOT / "docs" / "reference" / "command_line.md"))
    rows = re.findall(r"^\| (`-[^|]*) \|", parts[f"biounet {name}"], re.MULTILINE)
    listed = {option for row in rows for option in re.findall(r"`(-[^`]+)`", row)}
    assert taken >= COMMON
    assert listed == taken - COMMON
    assert all(f"`{option}`" in parts["All commands"] for option in COMMON)


def test_the_page_on_the_command_line_knows_the_defaults():
    for name, command in get_command(make_app()).commands.items():
        part = sections(read(ROOT / "docs" / "reference" / "command_line.md"))[f"biounet {name}"]
        rows = dict(re.findall(r"^\| `(-[^`]*)`[^|]*\| ([^|]*) \|", part, re.MULTILINE))
        for p in command.params:
            if p.opts[0] in rows and isinstance(p.default, str | int | Path) and not isinstance(p.default, bool):
                assert rows[p.opts[0]] == str(p.default), p.opts[0]
