import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biounet.datasets.selection import select, text_of
from biounet.errors import UsageError

CELLS = ["cell_0", "cell_1", "cell_2", "größe 3", "t004", "t005"]
PAGES = [f"train-volume[{i:02d}]" for i in range(30)]
OPTION = "--validation"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slices 20-23", [20, 21, 22, 23]),
        ("slice 7", [7]),
        ("images 0,4,7", [0, 4, 7]),
        ("frames 3-5, 1, 4 - 6", [1, 3, 4, 5, 6]),
        ("PAGES 29", [29]),
        ("slices 5-5", [5]),
        ("  images   2  ", [2]),
    ],
)
def test_positions(text, expected):
    assert select(PAGES, text, OPTION) == expected


@given(st.sets(st.integers(0, 29), min_size=1))
def test_any_set_of_positions(wanted):
    text = ",".join(map(str, sorted(wanted, reverse=True)))
    assert select(PAGES, f"slices {text}", OPTION) == sorted(wanted)


@pytest.mark.parametrize("text", ["slices 28-30", "images 30", "slices 0-999999999999", "slices 5-2", "images 1,99"])
def test_positions_that_are_not_there(text):
    with pytest.raises(UsageError, match=f"--validation '{text.split()[1]}': positions run from 0 to 29"):
        select(PAGES, text, OPTION)


@pytest.mark.parametrize("text", ["slices 2-", "slices 1-2-3", "slices 1,,2", "images 3,", "images 3 4"])
def test_positions_that_are_none(text):
    with pytest.raises(UsageError, match=r"--only '.*': write positions as 20-23 or 0,4,7"):
        select(PAGES, text, "--only")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cell_1", [1]),
        ("t005, cell_0", [0, 5]),
        ("cell_1,cell_1", [1]),
        ("größe 3", [3]),
        ("cell_2.tif", [2]),
        ("cell_2.ome.tif,t004.PNG", [2, 4]),
        ("cell_1_0000.nii.gz", [1]),
        (",cell_1,", [1]),
    ],
)
def test_names(text, expected):
    assert select(CELLS, text, OPTION) == expected


def test_a_dot_in_a_name_is_part_of_it():
    names = ["mouse.abc", "mouse.xyz", "mouse"]
    assert select(names, "mouse.xyz", OPTION) == [1]
    assert select(names, "mouse", OPTION) == [2]
    assert select(names, "mouse.abc.tif", OPTION) == [0]


def test_a_stack_stands_for_its_pages():
    names = ["a[00]", "a[01]", "b[00]", "b[01]", "c"]
    assert select(names, "b", OPTION) == [2, 3]
    assert select(names, "b.tif,c", OPTION) == [2, 3, 4]
    assert select(names, "a[01]", OPTION) == [1]


@pytest.mark.parametrize("text", ["cell_9", "cell_1,cell_9", "cell", "CELL_1.txt", "images/", ""])
def test_a_name_that_is_not_there(text):
    with pytest.raises(UsageError, match=r"--validation .*: no image of this name; there are cell_0, cell_1"):
        select(CELLS, text, OPTION)


def test_only_what_is_missing_is_named_and_the_list_is_short():
    with pytest.raises(UsageError) as caught:
        select(PAGES, "train-volume[03], x, y", OPTION)
    assert str(caught.value).startswith("--validation x, y: no image")
    assert str(caught.value).endswith("train-volume[05] ...")


def test_a_list_file(tmp_path):
    path = tmp_path / "held back für später.txt"
    path.write_text("\ufeffcell_2.tif\n\n  größe 3  \r\n", encoding="utf-8")
    assert select(CELLS, str(path), OPTION) == [2, 3]
    path.write_text("cell_2\ncell_7\n", encoding="utf-8")
    with pytest.raises(UsageError, match="cell_7: no image of this name"):
        select(CELLS, str(path), OPTION)
    path.write_text("\n")
    with pytest.raises(UsageError, match="no image of this name"):
        select(CELLS, str(path), OPTION)


def test_a_list_file_that_is_no_text(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(UsageError, match=r"names.txt: cannot be read as a list of names"):
        select(CELLS, str(path), OPTION)


def test_an_image_file_is_a_name_and_not_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cell_1.tif").write_bytes(b"II*\x00")
    assert select(CELLS, "cell_1.tif", OPTION) == [1]


def test_a_folder(tmp_path):
    folder = tmp_path / "held back"
    folder.mkdir()
    for name in ("t005.png", "cell_0.ome.tif", ".DS_Store", "notes.txt", "elsewhere.tif"):
        (folder / name).touch()
    assert select(CELLS, str(folder), OPTION) == [0, 5]
    with pytest.raises(UsageError, match=re.escape(f"{folder}: none of its files has the name of an image here (x)")):
        select(["x"], str(folder), OPTION)


def test_a_list_longer_than_a_file_name_may_be():
    names = [f"image_of_some_length_{i}" for i in range(400)]
    assert select(names, ",".join(names), OPTION) == list(range(400))
    with pytest.raises(UsageError, match="no image of this name"):
        select(names, "x" * 5000, OPTION)
    with pytest.raises(UsageError, match="no image of this name"):
        select(names, "x\0y", OPTION)


@pytest.mark.parametrize(
    ("names", "chosen", "text"),
    [
        (CELLS, [0, 3], "cell_0,größe 3"),
        (PAGES, [20, 21], "train-volume[20],train-volume[21]"),
        (["a, left", "b", "c"], [0], "images 0"),
        (["b", "a, b", "a"], [0, 1], "images 0,1"),  # as names: the first and the last
        (["images 2", "b", "c"], [0], "images 0"),
        (["a", "a[0]", "a[1]"], [0], "images 0"),  # as a name: the stack
        (["a", "a", "b"], [1], "images 1"),
        ([" a", "b "], [0, 1], "images 0,1"),
    ],
)
def test_the_text_of_a_choice_chooses_the_same(names, chosen, text):
    assert text_of(names, chosen) == text
    assert select(names, text, OPTION) == chosen


@given(st.lists(st.text("ab,[0] ", min_size=1), min_size=1, max_size=5), st.data())
def test_so_does_that_of_any_names(names, data):
    chosen = sorted(data.draw(st.sets(st.integers(0, len(names) - 1), min_size=1)))
    assert select(names, text_of(names, chosen), OPTION) == chosen
