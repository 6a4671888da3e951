"""Networks in a frame (`geometry.Frame`): as many pixels out as in, as formats with halos want them.

The logits at the edge are repeated over what unpadded convolutions lose. `Framed` takes such a network
out of its frame again, so that it is used like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.geometry import AxisGeometry, Geometry, frame_of
from biounet.inference.packages import import_or_refuse

Float32 = npt.NDArray[np.float32]


def onnx_in_frame(network: bytes, geometry: Geometry) -> bytes:
    """An ONNX network ``image`` -> ``logits`` of this geometry, in its frame: ``image`` -> ``framed``."""
    onnx = import_or_refuse("onnx", "this export")
    frames = [frame_of(axis) for axis in geometry.axes]
    model = onnx.load_from_string(network)
    graph = model.graph
    given, output = graph.input[0], graph.output[0]
    for node in graph.node:
        node.input[:] = ["cut" if name == given.name else name for name in node.input]
    values = {
        "first": [frame.cut[0] for frame in frames],
        "last": [-frame.cut[1] if frame.cut[1] else np.iinfo(np.int64).max for frame in frames],
        "axes": list(range(2, 2 + geometry.ndim)),
        "pads": [0, 0, *(frame.pad[0] for frame in frames), 0, 0, *(frame.pad[1] for frame in frames)],
    }
    for name, value in values.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), f"frame.{name}"))
    cut = [given.name, "frame.first", "frame.last", "frame.axes"]
    graph.node.insert(0, onnx.helper.make_node("Slice", cut, ["cut"], name="frame.cut"))
    pad = [output.name, "frame.pads"]
    graph.node.append(onnx.helper.make_node("Pad", pad, ["framed"], mode="edge", name="frame.pad"))
    classes = output.type.tensor_type.shape.dim[1].dim_value
    shape = ["n", classes, *(f"framed{axis}" for axis in range(geometry.ndim))]
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("framed", onnx.TensorProto.FLOAT, shape))
    data: bytes = model.SerializeToString()
    return data


def module_in_frame(network: Any) -> Any:
    """The same for a torch module with a ``geometry``, in evaluation mode."""
    torch = import_or_refuse("torch", "this export")
    frames = [frame_of(axis) for axis in network.geometry.axes]
    cut = (..., *(slice(frame.cut[0], -frame.cut[1] or None) for frame in frames))
    pads = [n for frame in reversed(frames) for n in frame.pad]  # torch takes the last axis first

    class Module(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.pad(self.network(x[cut]), pads, mode="replicate")

    return Module().eval()


def outer_geometry(geometry: Geometry) -> Geometry:
    """The geometry of the network in its frame: nothing is lost, and sizes are those of the frame."""
    frames = [frame_of(axis) for axis in geometry.axes]
    return Geometry(tuple(_outer(axis, sum(f.cut)) for axis, f in zip(geometry.axes, frames, strict=True)))


def _outer(axis: AxisGeometry, cut: int) -> AxisGeometry:
    return AxisGeometry((0, 0), axis.period, axis.smallest + cut, axis.reach)


class Framed:
    """An engine whose network is in a frame, used as if it were not. See `engines.Engine`."""

    def __init__(self, engine: Any, geometry: Geometry) -> None:
        self.geometry = geometry
        self.name, self.precision, self.cost, self.batches = engine.name, engine.precision, engine.cost, engine.batches
        self._engine = engine
        frames = [frame_of(axis) for axis in geometry.axes]
        self._around = [(0, 0), (0, 0), *(frame.cut for frame in frames)]
        self._first = [frame.pad[0] for frame in frames]

    def __call__(self, batch: Float32) -> Float32:
        size = self.geometry.output_size(batch.shape[2:])
        logits = self._engine(np.pad(batch, self._around))  # the network cuts these pixels away
        kept = (slice(first, first + n) for first, n in zip(self._first, size, strict=True))
        return np.ascontiguousarray(logits[(slice(None), slice(None), *kept)])
