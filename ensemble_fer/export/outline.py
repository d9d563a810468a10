"""What a large ONNX file consists of, without reading it: numbers and lengths of its fields, the rest passed over.

onnxruntime takes three times a file's size to open it, which is as it has to be where the file is weights. What
stands beside them is small in every graph of ours, and is asked for here before a large file is read at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

WAY = (7, 5, 9)
"""Field numbers in onnx.proto: a model's graph, the graph's initializers, an initializer's bytes."""
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5  # kinds of fields in protobuf's encoding
_HEAD = 20  # bytes: two numbers of ten at most


def is_mostly_weights(file: BinaryIO, size: int, most: int) -> bool:
    """Whether all but ``most`` bytes of a file of ``size`` bytes are the weights of an ONNX graph."""
    try:
        return _beside(file, 0, size, most) >= 0
    except ValueError:
        return False


def _beside(file: BinaryIO, start: int, end: int, left: int, deep: int = 0) -> int:
    """What is left of so many bytes when all fields of a message are taken off that are not on the way to weights."""
    for number, place, length, used in _fields(file, start, end):
        left -= used
        if number != WAY[deep]:
            left -= length
        elif deep + 1 < len(WAY):
            left = _beside(file, place, place + length, left, deep + 1)
        if left < 0:
            raise ValueError("more beside the weights than is meant")
    return left


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, place and length of each field between two places, and how long its head is."""
    while start < end:
        file.seek(start)
        head = file.read(_HEAD)
        tag, used = _varint(head, 0)
        number, kind = tag >> 3, tag & 7
        length = {_EIGHT: 8, _FOUR: 4}.get(kind, 0)
        if kind in (_VARINT, _LENGTH):
            value, used = _varint(head, used)
            length = value if kind == _LENGTH else 0
        if not number or kind not in (_VARINT, _EIGHT, _LENGTH, _FOUR) or start + used + length > end:
            raise ValueError("no field of protobuf")
        yield number, start + used, length, used
        start += used + length


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    found = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        found |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:
            return found, at
    raise ValueError("no number of protobuf")
