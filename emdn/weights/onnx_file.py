"""The graph of an ONNX file, read in milliseconds.

The package `onnx` reads the same, but takes 0.3 s to import, in which the network denoises
an image. An ONNX file is a message of Protocol Buffers: fields, each a number, a kind and a
value, one after the other; a value may be a message again. Only those fields are read that
`emdn.networks.onnx_graph` writes.

References
----------
"Encoding", https://protobuf.dev/programming-guides/encoding; the numbers of the fields:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import struct
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Kinds of fields, and how many bytes those of a fixed size have.
VARINT, BYTES = 0, 2
FIXED = {1: 8, 5: 4}

MOST_VARINT_BYTES = 10  # of 7 bits each: a number of 64

# What the numbers of `TensorProto.DataType` stand for; no other has a network of ours.
TYPES = {1: "<f4", 7: "<i8", 10: "<f2"}


class Node(NamedTuple):
    """An operation, and the names of what it takes and makes."""

    kind: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]


class Graph(NamedTuple):
    """The operations of a network in their order, its inputs, and its constants."""

    inputs: list[str]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, NDArray[Any]]


def read_graph(content: bytes) -> Graph:
    """Return the graph of an ONNX file.

    Parameters
    ----------
    content : bytes
        What `emdn.networks.onnx_graph.write_onnx` wrote.

    Raises
    ------
    ValueError
        If the file is damaged, or holds what no network of ours does.
    """
    try:
        (graph,) = _fields(memoryview(content))[7]
        fields = _fields(graph)
        nodes = [_node(each) for each in fields[1]]
        tensors = dict(_tensor(each) for each in fields[5])
        ends = [[_text(_fields(each)[1][0]) for each in fields[key]] for key in (11, 12)]
    except (LookupError, TypeError, ValueError, OverflowError, struct.error) as error:
        raise ValueError(f"is no ONNX file of emdn, or is damaged: {error}") from error
    inputs, outputs = ends
    return Graph(inputs, outputs, nodes, tensors)


def _fields(message: memoryview) -> defaultdict[int, list[Any]]:
    """Return the values of a message by the numbers of their fields."""
    found: defaultdict[int, list[Any]] = defaultdict(list)
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = _varint(message, place)
        else:
            size, place = _varint(message, place) if kind == BYTES else (FIXED[kind], place)
            value = message[place : place + size]
            place += size
        if place > len(message):
            raise ValueError("a field goes on behind the end")
        found[number].append(value)
    return found


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return a number, of which each byte holds seven bits, and the place behind it."""
    value = 0
    for count in range(MOST_VARINT_BYTES):
        byte = message[place + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place + count + 1
    raise ValueError("a number has too many bytes")


def _text(value: memoryview) -> str:
    return bytes(value).decode()


def _signed(value: int) -> int:
    """Return a number of 64 bits whose first may be a sign."""
    return value - 2**64 if value >= 2**63 else value


def _float(value: memoryview) -> float:
    return struct.unpack("<f", value)[0]


# By the number of the field that holds it, what reads the value of an attribute.
ATTRIBUTES: dict[int, Callable[[list[Any]], Any]] = {
    2: lambda values: _float(values[0]),
    3: lambda values: _signed(values[0]),
    4: lambda values: _text(values[0]),
    8: lambda values: [_signed(each) for each in values],
}


def _node(message: memoryview) -> Node:
    fields = _fields(message)
    (output,) = map(_text, fields[2])
    attributes = {}
    for each in map(_fields, fields[5]):
        held = [read(each[number]) for number, read in ATTRIBUTES.items() if number in each]
        (attributes[_text(each[1][0])],) = held
    return Node(
        _text(fields[4][0]), [_text(each) for each in fields[1]], output, attributes
    )


def _tensor(message: memoryview) -> tuple[str, NDArray[Any]]:
    """Return a constant and its name."""
    fields = _fields(message)
    values = np.frombuffer(fields[9][0], TYPES[fields[2][0]])
    return _text(fields[8][0]), values.reshape([_signed(each) for each in fields[1]])
