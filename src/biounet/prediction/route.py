"""Which way an image goes: through memory, or block by block."""

from __future__ import annotations

import math
from pathlib import Path

from biounet.images.formats import stem_name
from biounet.images.image import Header
from biounet.inference.engines import Engine
from biounet.inference.memory import Budget
from biounet.model_file import Model
from biounet.prediction.large import folder_of
from biounet.prediction.scale import needs_scale
from biounet.results.request import Request

_ARRAYS_AT_ONCE = 3  # images in memory: one read ahead, one computed, one written
_TILE_SIDE = {2: 256, 3: 32}  # pixels a side of a tile for which memory is left beside whole images


def takes_blocks(path: Path, header: Header, model: Model, engine: Engine, request: Request, budget: Budget) -> bool:
    """Whether an image goes block by block.

    So it does where it is too large for the memory allowed, is at another pixel size than the model's, is computed
    by several processes or only in a region, or was begun that way.
    """
    shared = request.cluster or request.shard or request.merge
    if shared or request.region or folder_of(request.out, stem_name(path)).exists():
        return True
    size = header.pixel_size_um
    known = size[-model.ndim :] if size is not None and len(size) >= model.ndim else None
    if request.pixel_size_um is not None or needs_scale(model, known):
        return True
    pixels = math.prod(header.shape)
    items = pixels // header.size("C")
    needed = header.dtype.itemsize * pixels + items * (4 * len(model.channels) + 16 * len(model.classes) + 60)
    tile = int(engine.cost.memory(engine.geometry.input_size((_TILE_SIDE[model.ndim],) * model.ndim)))
    return _ARRAYS_AT_ONCE * needed > budget.limit - budget.base - tile
