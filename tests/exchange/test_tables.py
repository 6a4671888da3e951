import csv

import numpy as np

from biounet.exchange.objects import Objects
from biounet.exchange.tables import join_tables, write_table


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_an_object(tmp_path):
    labels = np.zeros((6, 7), np.int32)
    labels[1:3, 1:4], labels[4:, 5:] = 2, 9
    assert write_table(tmp_path / "a.csv", [Objects(labels, "zelle", pixel_size_um=(0.1, 0.1))]) == 2
    first, second = read(tmp_path / "a.csv")
    assert (first["image"], first["id"], first["area_px2"], first["area_um2"]) == ("zelle", "2", "6", "0.06")
    assert (second["id"], second["touches_border"]) == ("9", "1")
    assert list(first)[:3] == ["image", "id", "area_px2"]


def test_planes_of_a_stack_and_columns_that_only_some_have(tmp_path):
    labels = np.ones((6, 7), np.int32)
    write_table(tmp_path / "a.csv", [Objects(labels, "s", z=0), Objects(labels, "s", z=1, pixel_size_um=(1, 2))])
    first, second = read(tmp_path / "a.csv")
    assert (first["z"], second["z"]) == ("0", "1")
    assert (first["area_um2"], second["area_um2"]) == ("", "84")


def test_all_tables_as_one(tmp_path):
    for name in "ab":
        write_table(tmp_path / f"{name}.csv", [Objects(np.ones((3, 3), np.int32), name)])
    join_tables(tmp_path / "all.csv", [tmp_path / "a.csv", tmp_path / "b.csv"])
    assert [row["image"] for row in read(tmp_path / "all.csv")] == ["a", "b"]


def test_time_and_plane_come_first_whichever_image_has_them(tmp_path):
    labels = np.ones((3, 3), np.int32)
    places = {"a": {}, "b": {"z": 1}, "c": {"t": 2}}
    objects = [Objects(labels, name, **place) for name, place in places.items()]
    write_table(tmp_path / "all.csv", objects)
    for one in objects:
        write_table(tmp_path / f"{one.name}.csv", [one])
    join_tables(tmp_path / "joined.csv", [tmp_path / f"{name}.csv" for name in places])
    for file in ("all.csv", "joined.csv"):
        rows = read(tmp_path / file)
        assert list(rows[0])[:4] == ["image", "t", "z", "id"]
        assert [(row["image"], row["t"], row["z"]) for row in rows] == [("a", "", ""), ("b", "", "1"), ("c", "2", "")]


def test_nothing_found_leaves_the_columns(tmp_path):
    assert write_table(tmp_path / "a.csv", [Objects(np.zeros((3, 3), np.int32))]) == 0
    assert (tmp_path / "a.csv").read_text() == "image,id\n"
    join_tables(tmp_path / "all.csv", [tmp_path / "a.csv"])
    assert read(tmp_path / "all.csv") == []


def test_names_of_any_bytes(tmp_path):
    name = b"bad\xff".decode(errors="surrogateescape")
    write_table(tmp_path / "a.csv", [Objects(np.ones((3, 3), np.int32), name)])
    join_tables(tmp_path / "all.csv", [tmp_path / "a.csv"])
    assert [row["image"] for row in read(tmp_path / "all.csv")] == ["bad\\udcff"]
