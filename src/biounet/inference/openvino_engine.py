"""OpenVINO as an engine: the fastest on CPUs, in fp32, bf16 and int8, without torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.geometry import Geometry
from biounet.inference.convert import openvino_core, read_network
from biounet.inference.cost import Cost, cost_of

Float32 = npt.NDArray[np.float32]

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # int8: of what is not quantised
_MOST_SHAPES = 4  # compiled networks kept, one for each batch shape


class OpenVinoEngine:
    """A network from an ONNX or OpenVINO file on the CPU.

    ``source``: ``.onnx``, ``.xml`` with its ``.bin``, or ONNX as bytes; for int8 a quantised one (see `quantize`).
    Each batch shape is compiled for itself: that takes a quarter of a second once, runs faster than
    free sizes, and int8 kernels have no free sizes. The precision is always stated, because OpenVINO
    takes bf16 unasked where the processor has it. ``threads``: 0 means as many as there are cores.
    """

    name = "openvino"
    batches = True  # up to 1.6 times as fast for small tiles, and the same bits (benchmarks/batches.py)

    def __init__(
        self,
        source: str | Path | bytes,
        geometry: Geometry,
        *,
        precision: str = "fp32",
        description: Mapping[str, Any] | None = None,
        threads: int = 0,
    ) -> None:
        self._network = read_network(source)
        self._core = openvino_core()
        self.precision = precision
        self.geometry = geometry
        self.cost: Cost = cost_of(description or {}, self.name, precision)
        self._options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": threads,
        }
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def __call__(self, batch: Float32) -> Float32:
        self.geometry.output_size(batch.shape[2:])  # refuses sizes that would compute something else
        request = self._request(batch.shape)
        results = request.infer({0: np.ascontiguousarray(batch, dtype=np.float32)}, share_inputs=True)
        return np.array(results[0], dtype=np.float32)  # a copy: the request's own memory is used again

    def _request(self, shape: tuple[int, ...]) -> Any:
        """An inference request of the network compiled for this batch shape."""
        if shape not in self._compiled:
            if len(self._compiled) == _MOST_SHAPES:
                self._compiled.popitem(last=False)
            network = self._network.clone()
            network.reshape(list(shape))
            compiled = self._core.compile_model(network, "CPU", self._options)
            self._compiled[shape] = compiled.create_infer_request()
        self._compiled.move_to_end(shape)
        return self._compiled[shape]
