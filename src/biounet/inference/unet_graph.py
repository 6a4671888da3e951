"""A U-Net, or an ensemble of them, as an ONNX graph, straight from its description and weights, without torch.

PyTorch's exporter takes some ten seconds for the paper's network and needs PyTorch; this takes a
fraction of a second. It says again what `networks.unet.UNet.forward` and `networks.ensemble` say; a test holds
both equal, and every engine is compared with the model's golden sample before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import ModelFileError
from biounet.geometry import unet_geometry
from biounet.inference.packages import import_or_refuse

Weights = Mapping[str, npt.NDArray[Any]]

OPSET, IR_VERSION = 18, 10  # read by every ONNX Runtime since 1.18
_EPSILON = 1e-5  # of batch normalisation, torch's default
_LEAST = 1e-30  # probability of an ensemble, as in `networks.ensemble`
_KNOWN = {"name", "in_channels", "classes", "width", "depth", "ndim", "pooling", "batch_norm", "dropout", "stem"}


def is_plain_unet(description: Mapping[str, Any]) -> bool:
    """Whether this is the U-Net as it is written here, with no setting that came later, or several of one geometry."""
    if description.get("name") == "ensemble":
        members = description["members"]
        alike = all(member.get(key) == members[0].get(key) for member in members for key in ("pooling", "stem"))
        return alike and all(member.get("name") == "unet" and is_plain_unet(member) for member in members)
    return description.get("name") == "unet" and set(description) | {"stem"} == _KNOWN


def unet_graph(description: Mapping[str, Any], weights: Weights) -> bytes:
    """The serialised ONNX model: ``image`` float32 (n, C, *size) -> ``logits`` float32 (n, K, *output).

    Batch and sizes are free; sizes must be admissible (`geometry.unet_geometry`), which the graph
    does not check. Raises `ModelFileError` where a weight is missing.
    """
    onnx = import_or_refuse("onnx", "this engine")
    builder = _Builder(onnx, weights)
    members = description.get("members", ())
    try:
        logits = _mean(builder, members) if members else _unet(builder, description)
    except KeyError as error:
        raise ModelFileError(f"weights do not fit the network: {error} is missing; train the model again") from error
    builder.nodes.append(onnx.helper.make_node("Identity", [logits], ["logits"]))
    one = members[0] if members else description
    ndim = int(one["ndim"])
    sides = [f"side{axis}" for axis in range(ndim)]
    real = onnx.TensorProto.FLOAT
    image = onnx.helper.make_tensor_value_info("image", real, ["n", int(one["in_channels"]), *sides])
    output = onnx.helper.make_tensor_value_info(
        "logits", real, ["n", int(one["classes"]), *(f"output{axis}" for axis in range(ndim))]
    )
    graph = onnx.helper.make_graph(builder.nodes, "unet", [image], [output], builder.tensors)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="biounet")
    data: bytes = model.SerializeToString()
    return data


def _mean(builder: _Builder, members: Sequence[Mapping[str, Any]]) -> str:
    """The steps of `Ensemble.forward`: the logarithm of the members' mean probabilities."""
    found = []
    for index, member in enumerate(members):
        logits = _unet(replace(builder, prefix=f"members.{index}."), member)
        found.append(builder.node("Softmax", [logits], axis=1))
    total = found[0]
    for one in found[1:]:
        total = builder.node("Add", [total, one])
    count = builder.tensor("ensemble.count", np.array(len(members), np.float32))
    least = builder.tensor("ensemble.least", np.array(_LEAST, np.float32))
    return builder.node("Log", [builder.node("Max", [builder.node("Div", [total, count]), least])])


def _unet(builder: _Builder, description: Mapping[str, Any]) -> str:
    """The steps of `UNet.forward`, by the names of its parameters; dropout does nothing at prediction."""
    pooling = [tuple(level) for level in description["pooling"]]
    blocks = tuple(description.get("stem", ()))
    stem = blocks if max(blocks, default=1) > 1 else ()
    builder = replace(builder, batch_norm=bool(description["batch_norm"]))
    depth = len(pooling)
    x, skips = builder.convolution("image", "stem", strides=stem) if stem else "image", []
    for level in range(depth + 1):
        x = builder.double_convolution(x, f"encoder.{level}")
        if level < depth:
            skips.append(x)
            x = builder.node("MaxPool", [x], kernel_shape=pooling[level], strides=pooling[level])
    for level in reversed(range(depth)):
        up = builder.convolution(x, f"up.{level}", "ConvTranspose", strides=pooling[level])
        x = builder.node("Concat", [up, builder.cropped(skips[level], pooling[level:])], axis=1)
        x = builder.double_convolution(x, f"decoder.{level}")
    return builder.convolution(x, "head", "ConvTranspose", strides=stem) if stem else builder.convolution(x, "head")


@dataclass(frozen=True)
class _Builder:
    """Nodes and tensors of a graph in the making. ``prefix``: of the names of the weights, in an ensemble."""

    onnx: Any
    weights: Weights
    prefix: str = ""
    batch_norm: bool = False
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def tensor(self, name: str, value: npt.NDArray[Any] | None = None) -> str:
        """Add a constant, by default the weight of this name, and return its name."""
        name = self.prefix + name if value is None else name
        value = self.weights[name] if value is None else value
        self.tensors.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def convolution(self, x: str, name: str, kind: str = "Conv", **attributes: Any) -> str:
        """A convolution with the weights of this name, and its bias where it has one."""
        inputs = [x, self.tensor(f"{name}.weight")]
        if f"{self.prefix}{name}.bias" in self.weights:
            inputs.append(self.tensor(f"{name}.bias"))
        kernel = self.weights[f"{self.prefix}{name}.weight"].shape[2:]
        return self.node(kind, inputs, kernel_shape=kernel, **attributes)

    def double_convolution(self, x: str, name: str) -> str:
        """Twice convolution, batch normalisation where there is one, and ReLU."""
        step = 3 if self.batch_norm else 2
        for index in (0, step):
            x = self.convolution(x, f"{name}.{index}")
            if self.batch_norm:
                parts = ("weight", "bias", "running_mean", "running_var")
                values = [self.tensor(f"{name}.{index + 1}.{part}") for part in parts]
                x = self.node("BatchNormalization", [x, *values], epsilon=_EPSILON)
            x = self.node("Relu", [x])
        return x

    def cropped(self, skip: str, factors: Sequence[tuple[int, ...]]) -> str:
        """The middle of a skip: all but what the levels below it lose, half on each side."""
        ndim = len(factors[0])
        margins = unet_geometry(len(factors) - 1, ndim, pooling=factors[1:]).margin
        crops = np.array([f * before for f, (before, _) in zip(factors[0], margins, strict=True)], np.int64)
        values = {"starts": crops, "ends": -crops, "axes": np.arange(2, 2 + ndim)}
        names = [self.tensor(f"{skip}.{part}", value.astype(np.int64)) for part, value in values.items()]
        return self.node("Slice", [skip, *names])
