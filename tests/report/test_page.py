"""The page as text: what it holds, what it escapes, how large it may be."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from biounet.errors import UsageError
from biounet.report.curves import line_chart
from biounet.report.embedding import embed
from biounet.report.page import (
    LIMIT_BYTES,
    Code,
    Curve,
    Figure,
    Numbers,
    Section,
    Table,
    Text,
    page_html,
    write_page,
)

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Collects tags and text, and checks that every tag is closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def page(*blocks):
    return page_html(title="T", lead="L", sections=[Section("S", blocks)])


def picture(height=20, width=30, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


EVERYTHING = [
    Text("First paragraph.\n\nSecond <b>paragraph</b> & more."),
    Numbers([("Score", 0.91234, "unseen"), ("Cells", 12, "")]),
    Code("biounet train 'my images' --out a.safetensors", "Train"),
    Table("Scores", ["image", "seg", "n"], [["a<1>.tif", 0.5, 3], ["b.tif", None, 4]], "worst first"),
    Figure(
        "Picture", {"image": picture(), "map": picture(seed=1), "truth": picture(channels=4)}, legend={"x": (255, 0, 1)}
    ),
    Curve("Loss", [0, 1, 2], {"loss": [3.0, float("nan"), 1.0], "seg": [0.1, 0.2, 0.3]}, "step", "value"),
]


def test_a_page_with_every_block_is_well_formed_and_escaped():
    reader = read(page(*EVERYTHING))
    text = " ".join(" ".join(reader.text).split())
    for expected in ("Second <b>paragraph</b> & more.", "a<1>.tif", "0.500", "–", "'my images'", "0.912"):
        assert expected in text
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("svg") == 2
    assert tags.count("img") == 3
    assert "b" not in tags


def test_names_of_any_bytes_are_shown(tmp_path):
    name = b"bad\xff.tif".decode(errors="surrogateescape")
    write_page(tmp_path / "p.html", title=name, lead=name, sections=[Section("S", [Text(name)])])
    assert (tmp_path / "p.html").read_text(encoding="utf-8").count("bad\\udcff.tif") >= 3


def test_nothing_is_fetched_from_anywhere():
    html = page(*EVERYTHING)
    assert "http://" not in html
    assert "https://" not in html
    sources = [a[k] for _, a in read(html).tags for k in ("src", "href") if k in a]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "default-src 'none'" in html


def test_pictures_have_texts_layers_have_buttons_and_only_the_first_are_shown():
    reader = read(page(EVERYTHING[4]))
    images = [a for tag, a in reader.tags if tag == "img"]
    assert [a["alt"] for a in images] == ["Picture: image", "Picture: map", "Picture: truth"]
    assert ["hidden" in a for a in images] == [False, True, False]
    buttons = [a for tag, a in reader.tags if tag == "button" and "data-layer" in a]
    assert [a["aria-pressed"] for a in buttons] == ["true", "false", "true"]
    assert ["over" in a["class"] for a in buttons] == [False, False, True]
    html = page(Figure("f", EVERYTHING[4].layers, shown=["map"]))
    assert ["hidden" in a for tag, a in read(html).tags if tag == "img"] == [True, False, True]


def test_small_pictures_are_embedded_exactly():
    layers = {"rgb": picture(), "over": picture(channels=4)}
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page(Figure("f", layers)))
    for content, expected in zip(found, layers.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), expected)


def test_noise_that_cannot_be_compressed_still_makes_a_page_below_the_limit(tmp_path):
    large = {f"layer {k}": picture(1500, 1400, 3 + k % 2, seed=k) for k in range(4)}
    path = tmp_path / "report ü.html"
    write_page(path, title="T", lead="L", sections=[Section("S", [Figure("f", large)])])
    assert 0.3 * LIMIT_BYTES < path.stat().st_size < LIMIT_BYTES
    assert [p.name for p in tmp_path.iterdir()] == ["report ü.html"]


def test_pictures_shrink_together_until_they_fit():
    pictures = [picture(200, 100), picture(40, 40)]
    free = embed(pictures, 10**9)
    tight = embed(pictures, 20_000)
    assert sum(map(len, tight)) <= 20_000 < sum(map(len, free))
    assert tight[1] == free[1]
    assert len(embed(pictures, 0)) == 2


def test_shrunken_layers_keep_the_colour_of_thin_lines():
    layer = np.zeros((400, 400, 4), np.uint8)
    layer[::8] = (255, 0, 0, 255)
    address = embed([layer], 900)[0]
    small = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGBA"))
    assert small.shape[0] < 400
    drawn = small[small[..., 3] > 20]
    assert len(drawn)
    assert (drawn[:, 0] > 240).all()
    assert (drawn[:, 1:3] < 15).all()


def test_large_pictures_become_jpeg_close_to_the_original():
    ramp = np.add.outer(np.arange(700), np.arange(700)).astype(np.uint16)
    smooth = np.stack([ramp // 8, ramp // 7, ramp // 6], -1).astype(np.uint8)
    address = embed([smooth], 10**9)[0]
    assert address.startswith("data:image/jpeg")
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert np.abs(decoded.astype(int) - smooth).mean() < 3


def test_too_much_text_is_refused():
    with pytest.raises(UsageError, match="do not fit into 5000000 bytes"):
        page(Text("x" * LIMIT_BYTES))


def test_the_same_page_twice_is_the_same():
    assert page(*EVERYTHING) == page(*EVERYTHING)


def test_long_tables_are_cut_and_say_so():
    html = page(Table("t", ["a"], [[k] for k in range(900)]))
    assert html.count("<tr>") == 501
    assert "The first 500 of 900 rows." in html


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.5, 0.25, None], ["0.500", "0.250", "–"]),
        ([12.345, 1.0], ["12.35", "1.00"]),
        ([123456.7, 0.0], ["123457", "0"]),
        ([0.00012, 0.5], ["0.00012", "0.5"]),
        ([float("nan"), np.float32(0.25)], ["–", "0.250"]),
        ([1, True, "x"], ["1", "True", "x"]),
    ],
)
def test_numbers_in_a_column_share_their_decimals(values, shown):
    html = page(Table("t", ["name", "v"], [["n", value] for value in values]))
    assert re.findall(r"<td[^>]*>([^<]*)</td>", html) == shown


def test_long_words_may_take_several_lines_and_numbers_stand_to_the_right():
    html = page(Table("t", ["a", "b", "c"], [["x", "word " * 9, 1], ["y", "z", None]]))
    cells = re.findall(r"<t[hd]( scope=\"\w+\")?( class=\"\w+\")?>", html)
    assert [look for _, look in cells] == ["", ' class="words"', ' class="number"'] * 3


def test_empty_tables_and_curves_do_not_break_the_page():
    read(page(Table("t", ["a", "b"], []), Curve("c", [], {}), Curve("d", [], {"s": []}), Numbers([])))
    read(page_html(title="", lead="", sections=[]))


def test_contradictions_are_refused():
    with pytest.raises(UsageError, match="row 1 has 1 cells, the header 2"):
        page(Table("t", ["a", "b"], [[1, 2], [3]]))
    with pytest.raises(UsageError, match="of one size"):
        page(Figure("f", {"a": picture(), "b": picture(9, 9)}))
    with pytest.raises(UsageError, match="figure 'f'"):
        page(Figure("f", {"a": picture().astype(np.float32)}))
    with pytest.raises(UsageError, match="at least one"):
        page(Figure("f", {}))
    with pytest.raises(UsageError, match=r"shown \['z'\]"):
        page(Figure("f", {"a": picture()}, shown=["z"]))
    with pytest.raises(UsageError, match="x has 2 values"):
        page(Curve("c", [0, 1], {"s": [1.0]}))


def lines_of(svg):
    root = ElementTree.fromstring(svg)
    paths = [element.get("d") for element in root.iter("path") if "line-" in element.get("class")]
    return [[tuple(map(float, point.split())) for point in re.split("[ML]", d) if point] for d in paths]


def test_a_curve_is_where_its_numbers_are():
    svg = line_chart("c", [0, 5, 10], {"a": [0.0, 1.0, 2.0], "b": [2.0, float("nan"), 0.0]}, width=400, height=200)
    rising, falling = lines_of(svg)
    assert rising == [(56.0, 158.0), (221.0, 85.0), (386.0, 12.0)]
    assert falling == [(56.0, 12.0), (386.0, 158.0)]
    texts = [element.text for element in ElementTree.fromstring(svg).iter("text")]
    assert {"0", "5", "10", "1", "2"} <= set(texts)


def test_long_curves_are_averaged_in_groups():
    values = [0.0, 1.0] * 4000 + [float("nan")] * 20
    (line,) = lines_of(line_chart("c", range(len(values)), {"a": values}))
    # 8020 points: groups of 21, of which every other has 11 ones and the last is not finite
    assert len(line) == 381
    heights = sorted({y for _, y in line})
    assert len(heights) <= 3
    assert len({y for _, y in lines_of(line_chart("c", range(8000), {"a": values[:8000]}))[0]}) == 1


def test_one_point_and_constant_curves_are_drawn():
    assert len(lines_of(line_chart("c", [3], {"a": [1.0]}))[0]) == 2
    assert len(lines_of(line_chart("c", [0, 1], {"a": [1.0, 1.0]}))[0]) == 2
    assert lines_of(line_chart("c", [0], {"a": [float("nan")]})) == [[]]
    assert "a &amp; b" in line_chart("a & b", [0], {"s": [1.0]})
