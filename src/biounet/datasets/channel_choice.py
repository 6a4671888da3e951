"""The channels that are learnt from, of images that may store them in different orders."""

from __future__ import annotations

from collections.abc import Sequence

from biounet.datasets.dataset import Dataset
from biounet.datasets.examples import Example
from biounet.errors import UsageError
from biounet.images.channels import find_channels


def choose_channels(
    examples: Sequence[Example], channels: Sequence[int | str] | None, dataset: Dataset | None
) -> tuple[list[Example], tuple[str, ...], tuple[str, ...]]:
    """Examples with these channels alone, in one order; their names, or positions; and what to say of it.

    ``channels``: names, or positions from 0; None for all. Files that name their channels are brought into the order
    of the first, whichever way each stores them. ``dataset``: where the examples are from, None for arrays. Raises
    `UsageError` for channels that there are not, or for none.
    """
    if channels is not None and not channels:
        raise UsageError("--channels names none; write names or positions from 0 with commas, as DAPI,2")
    if not examples:
        return [], (), ()
    first = examples[0]
    named = all(e.channel_names and set(e.channel_names) == set(first.channel_names) for e in examples)
    unique = len(set(first.channel_names)) == len(first.channel_names)
    said: tuple[str, ...] = ()
    if named and unique:
        wanted: Sequence[int | str] = first.channel_names if channels is None else channels
        wanted = [
            first.channel_names[k] for k in find_channels(wanted, first.channel_names, len(first.image), first.name)
        ]
        names = tuple(map(str, wanted))
        by = dataset.declared_by if dataset and dataset.channel_names and dataset.declared_by else "the files"
        said = (f"channels {', '.join(names)}, as {by} name{'s' * (by != 'the files')} them",)
    elif channels is None:
        return list(examples), tuple(map(str, range(len(first.image)))), ()
    else:
        wanted = channels
        names = tuple(map(str, find_channels(channels, first.channel_names, len(first.image), first.name)))
        said = (f"channels {', '.join(names)}, as asked for",)
    chosen = [find_channels(wanted, e.channel_names, len(e.image), e.name) for e in examples]
    return [e.with_image(e.image[c]) for e, c in zip(examples, chosen, strict=True)], names, said
