"""Where an exported network carries its passport: at the end of the file, so that the network stays as it was.

- ONNX: one more entry ``biounet`` of ``metadata_props``, appended to the serialised message. Protocol
  buffers allow that, every reader takes it as if it had been written with the rest, and neither reading
  nor writing it needs the package ``onnx``.
- OpenVINO: a comment behind the root element of the ``.xml``.
- ``torch.export``: a file ``extra/biounet`` in the archive (`torch_program`).

Knows bytes only: what a passport says is the business of `model_file`.
"""

from __future__ import annotations

import base64
import binascii
import re

_METADATA_PROPS = 14  # field of onnx.ModelProto; its entries have a key (1) and a value (2)
_KEY = b"biounet"
_BYTES = 2  # wire type of what has a length
_COMMENT = re.compile(rb"\n<!-- biounet (\S*) -->\n?\Z")


def encode(passport: bytes) -> bytes:
    """A passport as text, which is what metadata of networks can hold."""
    return base64.b64encode(passport)


def decode(text: bytes) -> bytes:
    """The inverse of `encode`; `ValueError` where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"a passport that is no base64 ({error})") from error


def with_onnx_passport(network: bytes, passport: bytes) -> bytes:
    """The ONNX file of a network and a passport."""
    entry = _field(1, _KEY) + _field(2, encode(passport))
    return network + _field(_METADATA_PROPS, entry)


def split_onnx(data: bytes) -> tuple[bytes, bytes | None]:
    """Network and passport of an ONNX file; None where it carries none.

    Raises `ValueError` for bytes that are no protocol buffer.
    """
    place, last = 0, (0, 0, b"")  # where the last field begins, its number, its content
    while place < len(data):
        begin = place
        tag, place = _number(data, place)
        kind = tag & 7
        if kind == _BYTES:
            length, place = _number(data, place)
        elif kind == 0:
            _, end = _number(data, place)
            length = end - place
        else:
            length = {1: 8, 5: 4}.get(kind, len(data))
        if place + length > len(data):
            raise ValueError("no ONNX file, or truncated")
        is_entry = kind == _BYTES and tag >> 3 == _METADATA_PROPS
        last = (begin, tag >> 3, data[place : place + length] if is_entry else b"")
        place += length
    begin, number, entry = last
    head = _field(1, _KEY)
    if number != _METADATA_PROPS or not entry.startswith(head):
        return data, None
    _, place = _number(entry, len(head))
    _, place = _number(entry, place)
    return data[:begin], decode(entry[place:])


def with_xml_passport(network: bytes, passport: bytes) -> bytes:
    """The OpenVINO file (.xml) of a network and a passport."""
    return network + b"\n<!-- biounet " + encode(passport) + b" -->\n"


def split_xml(data: bytes) -> tuple[bytes, bytes | None]:
    """Network and passport of an OpenVINO .xml; None where it carries none. `ValueError` for a damaged one."""
    found = _COMMENT.search(data)
    return (data, None) if found is None else (data[: found.start()], decode(found[1]))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the eighth saying that more follow."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _number(data: bytes, place: int) -> tuple[int, int]:
    """The varint at this place, and the place behind it."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(data):
            break
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
    raise ValueError("no ONNX file, or truncated")
