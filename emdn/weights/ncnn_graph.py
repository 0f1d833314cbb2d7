"""A network in the two forms that ncnn reads: the text of its layers, and their weights.

    Graph of an ONNX file --its nodes, one after the other--> layers --> text, weights

ncnn computes 3 x 3 convolutions by Winograd's algorithm, of up to four times fewer
multiplications (A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks",
CVPR (2016), 4013-4021). Networks of such convolutions are written, U-Net and DnCNN. The
paper's has separable ones, for which ncnn takes 1.3 times as long as ONNX Runtime, and is
refused.

ncnn trusts its files: of maps that do not fit together it would read foreign memory. So the
channels and the stride of each map are followed, and what does not fit is refused.

References
----------
"Param and model file structure" and "Operators", https://github.com/Tencent/ncnn/wiki
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn.weights.onnx_file import Graph, Node

# What files of layers begin with, and the marks of weights in single and in half precision.
MAGIC = 7767517
SINGLE, HALF = 0, 0x01306B47

# Numbers by which ncnn knows a convolution's settings, and a ReLU among its activations.
CHANNELS, KERNEL, STRIDE, PADDING, HAS_BIAS, WEIGHTS, ACTIVATION = 0, 1, 3, 4, 5, 6, 9
RELU = 1

# What ncnn calls binary operations, and a unary one. Setting 0 names the operation, 1 says
# that the second operand is a constant, and 2 is that.
BINARY = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3, "Max": 4}
SQUARE_ROOT = 5
BY_BLOCK = 1  # channels as ONNX orders them: those of a pixel of a block side by side

LARGEST_STRIDE = 16  # pixels, of which the sides of tiles are multiples

# How images of one channel come and go: (n, h, w, 1) outside, (n, 1, h, w) inside.
INWARDS, OUTWARDS = [0, 3, 1, 2], [0, 2, 3, 1]
PER_IMAGE = [-1, 1, 1, 1]  # shape of the counts inside
FLOAT = 1  # ONNX's number of float32


class Map(NamedTuple):
    """What lies between two layers: its name, its channels and its stride in pixels."""

    name: str
    channels: int
    stride: int  # 0 of a single number


@dataclass
class Layer:
    """A layer of ncnn: its kind, the maps it takes and makes, settings and weights."""

    kind: str
    inputs: list[str]
    output: str
    settings: dict[int, int | float] = field(default_factory=dict)
    weights: list[NDArray[Any]] = field(default_factory=list)


class Network(NamedTuple):
    """What ncnn reads, whether there are counts to give, and the map to ask for."""

    text: str
    weights: bytes
    gain_aware: bool
    denoised: str


class Writer:
    """The layers of a network, as they are added."""

    def __init__(self, graph: Graph) -> None:
        self.constants = dict(graph.constants)
        self.uses = Counter(name for node in graph.nodes for name in node.inputs)
        self.inputs: list[str] = []
        self.layers: list[Layer] = []
        self.maps: dict[str, Map] = {}  # by the names of the graph

    def add(
        self,
        kind: str,
        inputs: list[str],
        node: Node,
        size: tuple[int, int],
        settings: dict[int, int | float] | None = None,
        weights: list[NDArray[Any]] | None = None,
    ) -> None:
        """Add a layer that makes what a node does, of so many channels at a stride."""
        channels, stride = size
        refuse_unless(
            stride <= LARGEST_STRIDE, f"{node.output} has a stride of {stride} pixels"
        )
        given = [self.map(each).name for each in inputs]
        # A number, for a name of the graph may hold anything.
        layer = Layer(kind, given, str(len(self.layers)), settings or {}, weights or [])
        self.layers.append(layer)
        self.maps[node.output] = Map(layer.output, channels, stride)

    def begin(self, name: str, node: Node, stride: int) -> None:
        """Add an input, which keeps its name."""
        refuse_unless(
            node.inputs[0] == name and name not in self.inputs,
            f"{node.output}, a {node.kind}, has another input than {name}",
        )
        self.inputs.append(name)
        self.layers.append(Layer("Input", [], name))
        self.maps[node.output] = Map(name, 1, stride)

    def map(self, name: str) -> Map:
        """Return the map of a name in the graph."""
        refuse_unless(name in self.maps, f"{name} is made by no layer before it is used")
        return self.maps[name]

    def constant(self, name: str) -> NDArray[Any]:
        """Return a constant, which holds numbers."""
        refuse_unless(name in self.constants, f"{name} is no constant")
        value = self.constants[name]
        # A ReLU makes 0 of NaN, so that the result would not tell.
        refuse_unless(
            bool(np.isfinite(value).all()), f"{name} has values that are no number"
        )
        return value

    def convolution_before(self, node: Node) -> Layer:
        """Return the convolution whose result a node, and no other, takes."""
        name = node.inputs[0]
        made = {layer.output: layer for layer in self.layers}[self.map(name).name]
        refuse_unless(
            made.kind == "Convolution"
            and ACTIVATION not in made.settings
            and self.uses[name] == 1,
            f"{node.output}, a {node.kind}, follows no convolution, or not alone",
        )
        return made


def refuse_unless(fits: bool, fault: str) -> None:
    """Refuse a network that ncnn would not compute, or not faster."""
    if not fits:
        raise ValueError(f"ncnn runs U-Net and DnCNN alone, and {fault}; use backend onnx")


# What writes a node: from the layers so far, and the node.


def _image(writer: Writer, node: Node) -> None:
    """Begin or end with an image: of one channel, either order is the same."""
    if node.attributes == {"perm": INWARDS}:
        writer.begin("noisy", node, 1)
        return
    ends = node.attributes == {"perm": OUTWARDS} and node.output == "denoised"
    refuse_unless(ends, f"{node.output}, a Transpose, is at neither end")
    writer.maps[node.output] = writer.map(node.inputs[0])


def _counts(writer: Writer, node: Node) -> None:
    shape = writer.constant(node.inputs[1]).tolist()
    refuse_unless(shape == PER_IMAGE, f"{node.output} has the shape {shape}")
    writer.begin("counts", node, 0)


def _cast(writer: Writer, node: Node) -> None:
    """Leave weights as they are: ncnn makes single of half precision itself."""
    refuse_unless(node.attributes["to"] == FLOAT, f"{node.output} is not float32")
    writer.constants[node.output] = writer.constant(node.inputs[0])


def _square(node: Node) -> tuple[int, int, int]:
    """Return side, stride and padding of a convolution, alike in all directions."""
    kernel, stride, padding = (
        node.attributes[key][0] for key in ("kernel_shape", "strides", "pads")
    )
    plain = {
        "kernel_shape": [kernel] * 2,
        "strides": [stride] * 2,
        "dilations": [1] * 2,
        "pads": [padding] * 4,
        "group": 1,
    }
    refuse_unless(node.attributes == plain, f"{node.output} is no plain convolution")
    return kernel, stride, padding


def _convolution(writer: Writer, node: Node) -> None:
    """Write a convolution that keeps the size, or of blocks beside each other."""
    image, name, *bias = node.inputs
    weights = writer.constant(name)
    kernel, stride, padding = _square(node)
    before = writer.map(image)
    turned = node.kind == "ConvTranspose"
    if turned:
        weights = weights.swapaxes(0, 1)
    blocks = kernel == stride and padding == 0
    refuse_unless(
        blocks or (stride == 1 and 2 * padding == kernel - 1 and not turned),
        f"{node.output} is a convolution of other sides",
    )
    refuse_unless(
        weights.size > 0
        and weights.shape[1:] == (before.channels, kernel, kernel)
        and before.stride > 0
        and (not turned or before.stride % stride == 0),
        f"{node.output} does not fit {image}",
    )
    channels = len(weights)
    held = [writer.constant(each) for each in bias]
    refuse_unless(
        all(each.shape == (channels,) for each in held), f"{node.output} has an odd bias"
    )
    writer.add(
        "Deconvolution" if turned else "Convolution",
        [image],
        node,
        (channels, before.stride // stride if turned else before.stride * stride),
        {
            CHANNELS: channels,
            KERNEL: kernel,
            STRIDE: stride,
            PADDING: padding,
            HAS_BIAS: len(held),
            WEIGHTS: weights.size,
        },
        [weights, *held],
    )


def _batch_normalisation(writer: Writer, node: Node) -> None:
    """Multiply a normalisation into the convolution before it."""
    made = writer.convolution_before(node)
    gamma, beta, mean, variance = given = [writer.constant(x) for x in node.inputs[1:]]
    weights, *bias = made.weights
    refuse_unless(
        all(each.shape == (len(weights),) for each in given) and variance.min() >= 0,
        f"{node.output} does not fit {node.inputs[0]}",
    )
    with np.errstate(all="ignore"):  # of what is refused below
        factor = gamma / np.sqrt(variance + node.attributes["epsilon"])
        offset = (bias[0] if bias else 0) - mean
        made.weights = [
            weights * factor[:, np.newaxis, np.newaxis, np.newaxis],
            offset * factor + beta,
        ]
    finite = all(np.isfinite(each).all() for each in made.weights)
    refuse_unless(finite, f"{node.output} makes numbers that are too large")
    made.settings[HAS_BIAS] = 1
    writer.maps[node.output] = writer.map(node.inputs[0])


def _relu(writer: Writer, node: Node) -> None:
    """Make a ReLU part of the convolution before it, which saves a walk through memory."""
    writer.convolution_before(node).settings[ACTIVATION] = RELU
    writer.maps[node.output] = writer.map(node.inputs[0])


def _binary(writer: Writer, node: Node) -> None:
    """Write what is done with two maps, a map and the counts, or a map and a constant."""
    first, second = node.inputs
    _, channels, stride = writer.map(first)
    inputs = node.inputs
    settings: dict[int, int | float] = {0: BINARY[node.kind]}
    if second in writer.constants:
        value = writer.constant(second)
        refuse_unless(value.size == 1, f"{node.output} takes a constant of many numbers")
        inputs, settings = [first], {**settings, 1: 1, 2: float(value.item())}
    else:
        fits = writer.map(second)[1:] in ((channels, stride), (1, 0))
        refuse_unless(fits, f"{node.output} takes maps of two sizes")
    writer.add("BinaryOp", inputs, node, (channels, stride), settings)


def _square_root(writer: Writer, node: Node) -> None:
    _, channels, stride = writer.map(node.inputs[0])
    writer.add("UnaryOp", node.inputs, node, (channels, stride), {0: SQUARE_ROOT})


def _space_to_depth(writer: Writer, node: Node) -> None:
    _, channels, stride = writer.map(node.inputs[0])
    block = node.attributes["blocksize"]
    refuse_unless(block > 0 and stride > 0, f"{node.output} has blocks of {block} pixels")
    size = (channels * block**2, stride * block)
    writer.add("Reorg", node.inputs, node, size, {0: block, 1: BY_BLOCK})


def _depth_to_space(writer: Writer, node: Node) -> None:
    _, channels, stride = writer.map(node.inputs[0])
    block = node.attributes["blocksize"]
    refuse_unless(
        block > 0
        and stride > 0
        and channels % block**2 == stride % block == 0
        and node.attributes["mode"] == "DCR",
        f"{node.output} has blocks of {block} pixels, which do not fit",
    )
    size = (channels // block**2, stride // block)
    writer.add("PixelShuffle", node.inputs, node, size, {0: block, 1: BY_BLOCK})


WRITERS: dict[str, Callable[[Writer, Node], None]] = {
    "Transpose": _image,
    "Reshape": _counts,
    "Cast": _cast,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "BatchNormalization": _batch_normalisation,
    "Relu": _relu,
    **dict.fromkeys(BINARY, _binary),
    "Sqrt": _square_root,
    "SpaceToDepth": _space_to_depth,
    "DepthToSpace": _depth_to_space,
}
"""What writes each operation, by ONNX's name for it."""


def to_ncnn(graph: Graph) -> Network:
    """Return a network in the forms that ncnn reads.

    Parameters
    ----------
    graph : Graph
        What `emdn.weights.onnx_file.read_graph` returns.

    Returns
    -------
    Network
        It takes one image of one channel, (1, h, w) float32, whose sides are multiples of
        16, and if it is gain-aware the counts of a pixel of 1, (1,) float32.

    Raises
    ------
    ValueError
        If the network is none that ncnn computes faster than ONNX Runtime, or is damaged.
    """
    writer = Writer(graph)
    try:
        for node in graph.nodes:
            refuse_unless(node.kind in WRITERS, f"{node.output} is a {node.kind}")
            WRITERS[node.kind](writer, node)
    except (LookupError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"is no ONNX file of emdn, or is damaged: {error!r}") from error
    denoised = writer.map("denoised")
    refuse_unless(
        graph.outputs == ["denoised"] and denoised[1:] == (1, 1), "the result is no image"
    )
    refuse_unless({*writer.inputs} == {*graph.inputs}, "not every input is used")
    weights = b"".join(_packed(layer) for layer in writer.layers)
    return Network(_text(writer.layers), weights, len(graph.inputs) > 1, denoised.name)


def _text(layers: list[Layer]) -> str:
    """Return a line for each layer: kind, name, numbers of maps, their names, settings.

    A map may be taken once only, so what several layers take is split before.
    """
    uses = Counter(name for layer in layers for name in layer.inputs)
    taken: defaultdict[str, count[int]] = defaultdict(count)
    lines: list[str] = []
    maps = 0

    def write(kind: str, inputs: list[str], outputs: list[str], *settings: str) -> None:
        nonlocal maps
        numbers = f"{len(inputs)} {len(outputs)}"
        lines.append(
            " ".join([kind, f"l{len(lines)}", numbers, *inputs, *outputs, *settings])
        )
        maps += len(outputs)

    for layer in layers:
        inputs = [
            name if uses[name] == 1 else f"{name}_{next(taken[name])}"
            for name in layer.inputs
        ]
        settings = (f"{key}={_number(value)}" for key, value in layer.settings.items())
        write(layer.kind, inputs, [layer.output], *settings)
        if (many := uses[layer.output]) > 1:
            copies = [f"{layer.output}_{number}" for number in range(many)]
            write("Split", [layer.output], copies)
    return "\n".join([str(MAGIC), f"{len(lines)} {maps}", *lines, ""])


def _number(value: int | float) -> str:
    """Return a number as ncnn reads it: all digits of float32, in no more than 15 signs."""
    return f"{value:.8e}" if isinstance(value, float) else str(value)


def _packed(layer: Layer) -> bytes:
    """Return the weights of a layer: a mark, the kernel in whole words, and the bias."""
    if not layer.weights:
        return b""
    kernel, *bias = layer.weights
    half = kernel.dtype == np.float16
    values = kernel.astype("<f2" if half else "<f4").tobytes()
    mark = struct.pack("<I", HALF if half else SINGLE)
    padding = bytes(-len(values) % len(mark))
    return b"".join(
        [mark, values, padding, *(each.astype("<f4").tobytes() for each in bias)]
    )
