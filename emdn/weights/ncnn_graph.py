"""A network in the two forms that ncnn reads: the text of its layers, and their weights.

    ONNX file --nodes of its graph, one after the other--> layers --> text, weights

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

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
TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64}  # of constants


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


class Refusal(ValueError):
    """What is wrong with a network that ncnn would not compute, or not faster."""


class Network(NamedTuple):
    """What ncnn reads, whether there are counts to give, and the map to ask for."""

    text: str
    weights: bytes
    gain_aware: bool
    denoised: str


class Writer:
    """The layers of a network, as they are added."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {each.name: _array(each) for each in graph.initializer}
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.inputs: list[str] = []
        self.layers: list[Layer] = []
        self.maps: dict[str, Map] = {}  # by the names of the graph

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        node: onnx.NodeProto,
        size: tuple[int, int],
        settings: dict[int, int | float] | None = None,
        weights: list[NDArray[Any]] | None = None,
    ) -> None:
        """Add a layer that makes what a node does, of so many channels at a stride."""
        channels, stride = size
        refuse_unless(
            stride <= LARGEST_STRIDE, f"{node.name} has a stride of {stride} pixels"
        )
        given = [self.map(each).name for each in inputs]
        # A number, for a name of the graph may hold anything.
        layer = Layer(kind, given, str(len(self.layers)), settings or {}, weights or [])
        self.layers.append(layer)
        self.maps[node.output[0]] = Map(layer.output, channels, stride)

    def begin(self, name: str, node: onnx.NodeProto, stride: int) -> None:
        """Add an input, which keeps its name."""
        refuse_unless(
            node.input[0] == name and name not in self.inputs,
            f"{node.name}, a {node.op_type}, has another input than {name}",
        )
        self.inputs.append(name)
        self.layers.append(Layer("Input", [], name))
        self.maps[node.output[0]] = Map(name, 1, stride)

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

    def convolution_before(self, node: onnx.NodeProto) -> Layer:
        """Return the convolution whose result a node, and no other, takes."""
        name = node.input[0]
        made = {layer.output: layer for layer in self.layers}[self.map(name).name]
        refuse_unless(
            made.kind == "Convolution"
            and ACTIVATION not in made.settings
            and self.uses[name] == 1,
            f"{node.name}, a {node.op_type}, follows no convolution, or not alone",
        )
        return made


def refuse_unless(fits: bool, fault: str) -> None:
    """Refuse a network that ncnn would not compute, or not faster."""
    if not fits:
        raise Refusal(f"ncnn runs U-Net and DnCNN alone, and {fault}; use backend onnx")


def _array(tensor: onnx.TensorProto) -> NDArray[Any]:
    """Return the values of a constant."""
    fits = tensor.data_type in TYPES and not uses_external_data(tensor)
    refuse_unless(fits, f"{tensor.name} is of another type, or in another file")
    return numpy_helper.to_array(tensor)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


# What writes a node: from the layers so far, and the node.


def _image(writer: Writer, node: onnx.NodeProto) -> None:
    """Begin or end with an image: of one channel, either order is the same."""
    if _attributes(node) == {"perm": INWARDS}:
        writer.begin("noisy", node, 1)
        return
    ends = _attributes(node) == {"perm": OUTWARDS} and list(node.output) == ["denoised"]
    refuse_unless(ends, f"{node.name}, a Transpose, is at neither end")
    writer.maps[node.output[0]] = writer.map(node.input[0])


def _counts(writer: Writer, node: onnx.NodeProto) -> None:
    shape = writer.constant(node.input[1]).tolist()
    refuse_unless(shape == PER_IMAGE, f"{node.name} has the shape {shape}")
    writer.begin("counts", node, 0)


def _cast(writer: Writer, node: onnx.NodeProto) -> None:
    """Leave weights as they are: ncnn makes single of half precision itself."""
    to = _attributes(node)["to"]
    refuse_unless(to == TensorProto.FLOAT, f"{node.name} is not float32")
    writer.constants[node.output[0]] = writer.constant(node.input[0])


def _square(node: onnx.NodeProto) -> tuple[int, int, int]:
    """Return side, stride and padding of a convolution, alike in all directions."""
    attributes = _attributes(node)
    kernel, stride, padding = (
        attributes[key][0] for key in ("kernel_shape", "strides", "pads")
    )
    plain = {
        "kernel_shape": [kernel] * 2,
        "strides": [stride] * 2,
        "dilations": [1] * 2,
        "pads": [padding] * 4,
        "group": 1,
    }
    refuse_unless(attributes == plain, f"{node.name} is no plain convolution")
    return kernel, stride, padding


def _convolution(writer: Writer, node: onnx.NodeProto) -> None:
    """Write a convolution that keeps the size, or of blocks beside each other."""
    image, name, *bias = node.input
    weights = writer.constant(name)
    kernel, stride, padding = _square(node)
    before = writer.map(image)
    turned = node.op_type == "ConvTranspose"
    if turned:
        weights = weights.swapaxes(0, 1)
    blocks = kernel == stride and padding == 0
    refuse_unless(
        blocks or (stride == 1 and 2 * padding == kernel - 1 and not turned),
        f"{node.name} is a convolution of other sides",
    )
    refuse_unless(
        weights.size > 0
        and weights.shape[1:] == (before.channels, kernel, kernel)
        and before.stride > 0
        and (not turned or before.stride % stride == 0),
        f"{node.name} does not fit {image}",
    )
    channels = len(weights)
    held = [writer.constant(each) for each in bias]
    refuse_unless(
        all(each.shape == (channels,) for each in held), f"{node.name} has an odd bias"
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


def _batch_normalisation(writer: Writer, node: onnx.NodeProto) -> None:
    """Multiply a normalisation into the convolution before it."""
    made = writer.convolution_before(node)
    gamma, beta, mean, variance = given = [writer.constant(x) for x in node.input[1:]]
    weights, *bias = made.weights
    refuse_unless(
        all(each.shape == (len(weights),) for each in given) and variance.min() >= 0,
        f"{node.name} does not fit {node.input[0]}",
    )
    with np.errstate(all="ignore"):  # of what is refused below
        factor = gamma / np.sqrt(variance + _attributes(node)["epsilon"])
        offset = (bias[0] if bias else 0) - mean
        made.weights = [
            weights * factor[:, np.newaxis, np.newaxis, np.newaxis],
            offset * factor + beta,
        ]
    finite = all(np.isfinite(each).all() for each in made.weights)
    refuse_unless(finite, f"{node.name} makes numbers that are too large")
    made.settings[HAS_BIAS] = 1
    writer.maps[node.output[0]] = writer.map(node.input[0])


def _relu(writer: Writer, node: onnx.NodeProto) -> None:
    """Make a ReLU part of the convolution before it, which saves a walk through memory."""
    writer.convolution_before(node).settings[ACTIVATION] = RELU
    writer.maps[node.output[0]] = writer.map(node.input[0])


def _binary(writer: Writer, node: onnx.NodeProto) -> None:
    """Write what is done with two maps, a map and the counts, or a map and a constant."""
    first, second = node.input
    _, channels, stride = writer.map(first)
    inputs = node.input
    settings: dict[int, int | float] = {0: BINARY[node.op_type]}
    if second in writer.constants:
        value = writer.constant(second)
        refuse_unless(value.size == 1, f"{node.name} takes a constant of many numbers")
        inputs, settings = [first], {**settings, 1: 1, 2: float(value.item())}
    else:
        fits = writer.map(second)[1:] in ((channels, stride), (1, 0))
        refuse_unless(fits, f"{node.name} takes maps of two sizes")
    writer.add("BinaryOp", inputs, node, (channels, stride), settings)


def _square_root(writer: Writer, node: onnx.NodeProto) -> None:
    _, channels, stride = writer.map(node.input[0])
    writer.add("UnaryOp", node.input, node, (channels, stride), {0: SQUARE_ROOT})


def _space_to_depth(writer: Writer, node: onnx.NodeProto) -> None:
    _, channels, stride = writer.map(node.input[0])
    block = _attributes(node)["blocksize"]
    refuse_unless(block > 0 and stride > 0, f"{node.name} has blocks of {block} pixels")
    size = (channels * block**2, stride * block)
    writer.add("Reorg", node.input, node, size, {0: block, 1: BY_BLOCK})


def _depth_to_space(writer: Writer, node: onnx.NodeProto) -> None:
    _, channels, stride = writer.map(node.input[0])
    attributes = _attributes(node)
    block = attributes["blocksize"]
    refuse_unless(
        block > 0
        and stride > 0
        and channels % block**2 == stride % block == 0
        and attributes["mode"] == b"DCR",
        f"{node.name} has blocks of {block} pixels, which do not fit",
    )
    size = (channels // block**2, stride // block)
    writer.add("PixelShuffle", node.input, node, size, {0: block, 1: BY_BLOCK})


WRITERS: dict[str, Callable[[Writer, onnx.NodeProto], None]] = {
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


def to_ncnn(content: bytes) -> Network:
    """Return a network in the forms that ncnn reads.

    Parameters
    ----------
    content : bytes
        What `emdn.networks.onnx_graph.write_onnx` wrote.

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
    try:
        onnx.checker.check_model(content, full_check=True)
        return _converted(onnx.load_model_from_string(content).graph)
    except Refusal:
        raise
    except Exception as error:  # a damaged file raises errors of any kind
        raise ValueError(
            "is no network as an ONNX file, or is damaged "
            f"({type(error).__name__}); name another file"
        ) from error


def _converted(graph: onnx.GraphProto) -> Network:
    writer = Writer(graph)
    for node in graph.node:
        known = node.op_type in WRITERS and not node.domain
        refuse_unless(known, f"{node.name} is a {node.op_type}")
        WRITERS[node.op_type](writer, node)
    denoised = writer.map("denoised")
    inputs, outputs = ([each.name for each in ends] for ends in (graph.input, graph.output))
    refuse_unless(
        outputs == ["denoised"] and denoised[1:] == (1, 1), "the result is no image"
    )
    refuse_unless({*writer.inputs} == {*inputs}, "not every input is used")
    weights = b"".join(_packed(layer) for layer in writer.layers)
    return Network(_text(writer.layers), weights, len(inputs) > 1, denoised.name)


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
