"""ONNX Runtime as an engine: an exported network on any CPU, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError
from biounet.geometry import Geometry
from biounet.inference.cost import Cost, cost_of
from biounet.inference.packages import import_or_refuse

Float32 = npt.NDArray[np.float32]


class OnnxEngine:
    """A network from an ONNX file on the CPU, fp32.

    ``source``: a file as `convert.write_onnx` writes it, or its bytes: one input (N, C, *size), one output of logits.
    ``description``: of the network, for its cost. ``threads``: 0 means as many as there are cores.
    """

    name, precision = "onnx", "fp32"
    batches = False

    def __init__(
        self,
        source: str | Path | bytes,
        geometry: Geometry,
        *,
        description: Mapping[str, Any] | None = None,
        threads: int = 0,
    ) -> None:
        runtime = import_or_refuse("onnxruntime", "--engine onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            # bytes: so names with umlauts make no trouble on any system
            data = source if isinstance(source, bytes) else Path(source).read_bytes()
            self._session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # each release has exceptions of its own
            what = "the network" if isinstance(source, bytes) else source
            raise DataError(
                f"{what}: cannot be loaded as ONNX ({str(error).splitlines()[0]}); export it again"
            ) from error
        self.geometry = geometry
        self.cost: Cost = cost_of(description or {}, self.name, self.precision)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: Float32) -> Float32:
        self.geometry.output_size(batch.shape[2:])  # refuses sizes that would compute something else
        (logits,) = self._session.run(None, {self._input: np.ascontiguousarray(batch, dtype=np.float32)})
        return np.asarray(logits, dtype=np.float32)
