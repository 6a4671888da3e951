"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """A number of things: "1 image", "2 images", "1,200 images"."""
    return f"{number:,} {what}{'s' * (number != 1)}"
