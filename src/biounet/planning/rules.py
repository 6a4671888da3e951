"""What a rule of the plan gives: one setting with its value and the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from biounet.planning.fingerprint import Fingerprint
from biounet.settings import Settings


@dataclass(frozen=True)
class Choice:
    """One setting, by its dotted name, with the value chosen and why."""

    key: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.key} = {self.value}: {self.reason}"


Rule = Callable[[Settings, Fingerprint, str], Choice | None]  # of settings, fingerprint and task; None: left alone


def with_value(settings: Settings, key: str, value: Any) -> Settings:
    """Settings with one value replaced, named as in ``network.depth``."""
    section, _, name = key.partition(".")
    group = getattr(settings, section)
    return settings.model_copy(update={section: group.model_copy(update={name: value})})
