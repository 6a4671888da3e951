import json

from biounet.inference import cache
from biounet.inference.cache import cached


def maker(text, made):
    def make(folder):
        made.append(text)
        (folder / "a.txt").write_text(text)

    return make


def test_made_once_for_the_same_facts(tmp_path):
    made = []
    first = cached({"a": 1}, maker("one", made), folder=tmp_path)
    assert cached({"a": 1}, maker("one", made), folder=tmp_path) == first
    assert (first / "a.txt").read_text() == "one"
    other = cached({"a": 2}, maker("two", made), folder=tmp_path)
    assert other != first
    assert made == ["one", "two"]
    assert {path.name for path in tmp_path.iterdir()} == {first.name, other.name}


def test_a_changed_or_missing_file_is_made_anew(tmp_path):
    made = []
    entry = cached({"a": 1}, maker("one", made), folder=tmp_path)
    (entry / "a.txt").write_text("damaged")
    assert (cached({"a": 1}, maker("one", made), folder=tmp_path) / "a.txt").read_text() == "one"
    (entry / "a.txt").unlink()
    cached({"a": 1}, maker("one", made), folder=tmp_path)
    (entry / "sha256.json").write_text(json.dumps([1]))
    cached({"a": 1}, maker("one", made), folder=tmp_path)
    assert made == ["one"] * 4


def test_an_entry_that_another_process_made_meanwhile_stays(tmp_path):
    """It may be in use: its files are the same ones afterwards, and only one folder is left."""
    entries = []

    def make(folder):
        (folder / "a.txt").write_text("one")
        if not entries:  # while this one is made, another is faster
            entries.append(tmp_path)
            entries[0] = cached({"a": 1}, make, folder=tmp_path)
            entries.append((entries[0] / "a.txt").stat().st_ino)

    assert cached({"a": 1}, make, folder=tmp_path) == entries[0]
    assert (entries[0] / "a.txt").stat().st_ino == entries[1]
    assert [path.name for path in tmp_path.iterdir()] == [entries[0].name]


def test_a_damaged_entry_that_cannot_be_removed_is_not_used(tmp_path, monkeypatch):
    entry = cached({"a": 1}, maker("one", []), folder=tmp_path)
    (entry / "a.txt").write_text("damaged")

    def refuse(path, target):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.rename", refuse)
    other = cached({"a": 1}, maker("one", []), folder=tmp_path)
    assert other != entry
    assert (other / "a.txt").read_text() == "one"


def test_what_fails_leaves_no_entry(tmp_path):
    def fail(folder):
        (folder / "half.txt").write_text("half")
        raise KeyError

    try:
        cached({"a": 1}, fail, folder=tmp_path)
    except KeyError:
        made = []
        entry = cached({"a": 1}, maker("one", made), folder=tmp_path)
        assert made == ["one"]
        assert not (entry / "half.txt").exists()
        assert [path.name for path in tmp_path.iterdir()] == [entry.name]


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    entry = cached({"a": 1}, maker("one", []), folder=tmp_path / "file")
    assert (entry / "a.txt").read_text() == "one"


def test_the_least_recently_used_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_LARGEST", 700)
    first = cached({"a": 0}, maker("x" * 200, []), folder=tmp_path)
    for number in range(1, 6):
        newest = cached({"a": number}, maker("x" * 200, []), folder=tmp_path)
    assert newest.exists()
    assert not first.exists()
    assert len(list(tmp_path.iterdir())) == 2
