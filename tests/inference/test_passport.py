"""The end of a file holds the passport; every reader takes the network as it was."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biounet.inference.passport import split_onnx, split_xml, with_onnx_passport, with_xml_passport
from biounet.inference.unet_graph import unet_graph


@given(st.binary(max_size=300))
def test_what_was_appended_comes_back(passport):
    network = onnx.ModelProto(ir_version=10, producer_name="x").SerializeToString()
    assert split_onnx(with_onnx_passport(network, passport)) == (network, passport)
    xml = b'<?xml version="1.0"?>\n<net name="Gr\xc3\xb6\xc3\x9fe"/>\n'
    assert split_xml(with_xml_passport(xml, passport)) == (xml, passport)


def test_to_others_it_is_metadata(random_network):
    network = random_network()
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    data = unet_graph(network.description, weights)
    assert split_onnx(data) == (data, None)
    read = onnx.load_from_string(with_onnx_passport(data, b"\0\xff" * 3000))
    assert [(entry.key, len(entry.value)) for entry in read.metadata_props] == [("biounet", 8000)]
    assert read.graph == onnx.load_from_string(data).graph
    onnx.checker.check_model(read)


def test_other_metadata_is_no_passport():
    model = onnx.ModelProto(ir_version=10)
    model.metadata_props.add(key="author", value="somebody")
    data = model.SerializeToString()
    assert split_onnx(data) == (data, None)
    assert split_xml(b"<net/><!-- biounetwork -->\n") == (b"<net/><!-- biounetwork -->\n", None)


@pytest.mark.parametrize("data", [b"nothing at all", b"\xff" * 20, b"\x72\x7f", b"\x0b", b"\x72"])
def test_what_is_no_onnx(data):
    with pytest.raises(ValueError, match="no ONNX file, or truncated"):
        split_onnx(data)


def test_a_passport_that_was_changed():
    data = with_onnx_passport(b"", b"abcdef")
    with pytest.raises(ValueError, match="no base64"):
        split_onnx(data[:-2] + b"\xff\xff")
    with pytest.raises(ValueError, match="no base64"):
        split_xml(b"<net/>\n<!-- biounet ###a -->\n")


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    try:
        network, _ = split_onnx(data)
    except ValueError:
        return
    assert data.startswith(network)


def test_long_fields_are_stepped_over():
    tensor = onnx.numpy_helper.from_array(np.zeros(100_000, np.float32), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    data = onnx.helper.make_model(graph).SerializeToString()
    assert split_onnx(with_onnx_passport(data, b"p")) == (data, b"p")
