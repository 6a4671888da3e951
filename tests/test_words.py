from biounet.words import counted


def test_one_is_one_and_thousands_have_commas():
    assert [counted(n, "held-back image") for n in (0, 1, 2)] == [
        "0 held-back images", "1 held-back image", "2 held-back images",
    ]  # fmt: skip
    assert counted(12345, "step") == "12,345 steps"
