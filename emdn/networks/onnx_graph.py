"""A network as an ONNX graph, which `emdn` runs by default and other programs read.

    keras.Model --its operations, one after the other--> nodes of a graph

Batch normalisations stay: runtimes fold them themselves, and the weights of convolutions
keep the few digits that they ship with, so that the file packs well. Images are
(n, h, w, 1) outside, as everywhere here, and (n, c, h, w) inside, as ONNX wants them. The
sizes stay open. The package `onnx` alone writes the graph.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from emdn.files import written_whole
from emdn.networks.inference import gain_aware

# The oldest that hold all operations, so that old runtimes read the file.
OPSET, IR_VERSION = 17, 8

# Weights that ship have 11 binary digits, as half precision has down to 2**-14; below, it
# rounds by as much.
ROUNDING = 2.0**-25

NO_END = 2**62  # pixels, the end of a slice that has none

SPATIAL = [2, 3]  # axes of feature maps, (n, c, h, w)


class Graph:
    """The nodes and the constants of a graph, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node of one output, and return the name of it."""
        node = helper.make_node(kind, inputs, [output], name=output, **attributes)
        self.nodes.append(node)
        return output

    def constant(self, name: str, value: ArrayLike, kind: Any = np.float32) -> str:
        """Add a constant, once by its name, and return the name."""
        array = np.ascontiguousarray(value, kind)
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def weights(self, name: str, values: NDArray[np.float32]) -> str:
        """Add weights, in half precision where that changes none of them noticeably."""
        with np.errstate(over="ignore"):  # to infinity, which is noticed
            short = values.astype(np.float16)
        if np.abs(values - short).max() > ROUNDING:
            return self.constant(name, values)
        short_name = self.constant(f"{name}_short", short, np.float16)
        return self.add("Cast", [short_name], name, to=TensorProto.FLOAT)


# What writes an operation of Keras: from its graph, itself, the names of its inputs and the
# name of its output.
Writer = Callable[[Graph, Any, list[str], str], str]


# Convolutions.


def _padding(layer: Any) -> list[int]:
    """Return what is added at the top, left, bottom and right.

    Of an odd number of pixels, TensorFlow adds the last at the bottom and right.
    """
    if layer.padding != "same":
        return [0, 0, 0, 0]
    size, stride, rate = layer.kernel_size[0], layer.strides[0], layer.dilation_rate[0]
    total = max((size - 1) * rate + 1 - stride, 0)
    return [total // 2, total // 2, total - total // 2, total - total // 2]


def _convolution(kind: str, axes: tuple[int, ...], *, each: bool = False) -> Writer:
    """Return what writes a convolution.

    Parameters
    ----------
    kind : str
        ONNX's name for it.
    axes : tuple of int
        Order in which ONNX wants the axes of Keras's kernel.
    each : bool
        Whether each channel has a kernel of its own.
    """

    def write(graph: Graph, layer: Any, inputs: list[str], name: str) -> str:
        kernel, *bias = layer.get_weights()
        given = [*inputs, graph.weights(f"{name}_kernel", kernel.transpose(axes))]
        given += [graph.constant(f"{name}_bias", values) for values in bias]
        linear = layer.activation is keras.activations.linear
        made = graph.add(
            kind,
            given,
            name if linear else f"{name}_sum",
            kernel_shape=layer.kernel_size,
            strides=layer.strides,
            dilations=layer.dilation_rate,
            pads=_padding(layer),
            group=kernel.shape[2] if each else 1,
        )
        return made if linear else _activation(graph, layer, [made], name)

    return write


# Activations, sums and shapes.


def _activation(graph: Graph, layer: Any, inputs: list[str], name: str) -> str:
    match layer.activation.__name__:
        case "relu":
            return graph.add("Relu", inputs, name)
        case "relu6":
            ends = [graph.constant("zero", 0.0), graph.constant("six", 6.0)]
            return graph.add("Clip", [*inputs, *ends], name)
        case other:
            raise ValueError(f"{layer.name}: an activation {other} cannot be written")


def _plain(kind: str, **attributes: Any) -> Writer:
    """Return what writes a single node that has no weights."""

    def write(graph: Graph, _: Any, inputs: list[str], name: str) -> str:
        return graph.add(kind, inputs, name, **attributes)

    return write


def _batch_normalisation(graph: Graph, layer: Any, inputs: list[str], name: str) -> str:
    kinds = ("gamma", "beta", "mean", "variance")
    # Batch renormalisation has further weights, which serve the training alone.
    weights = [
        graph.constant(f"{name}_{kind}", values)
        for kind, values in zip(kinds, layer.get_weights(), strict=False)
    ]
    kind = "BatchNormalization"
    return graph.add(kind, [*inputs, *weights], name, epsilon=layer.epsilon)


def _average_pooling(graph: Graph, layer: Any, inputs: list[str], name: str) -> str:
    return graph.add(
        "AveragePool",
        inputs,
        name,
        kernel_shape=layer.pool_size,
        strides=layer.strides,
        auto_pad="SAME_UPPER" if layer.padding == "same" else "VALID",
    )


def _upsampling(graph: Graph, layer: Any, inputs: list[str], name: str) -> str:
    scales = graph.constant(f"{name}_scales", [1, 1, layer.factor, layer.factor])
    return graph.add(
        "Resize",
        [*inputs, "", scales],
        name,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def _every_other_pixel(graph: Graph, operation: Any, inputs: list[str], name: str) -> str:
    """Write ``x[:, ::2, ::2]``, the one slice that a network of ours has."""
    _, key = operation._inbound_nodes[0].arguments.args
    if tuple(key) != (slice(None), slice(None, None, 2), slice(None, None, 2)):
        raise ValueError(f"{name}: a slice {key} cannot be written")
    settings = {"starts": [0, 0], "ends": [NO_END] * 2, "axes": SPATIAL, "steps": [2, 2]}
    given = [
        graph.constant(f"slice_{each}", values, np.int64)
        for each, values in settings.items()
    ]
    return graph.add("Slice", [*inputs, *given], name)


def _crop_like(graph: Graph, _: Any, inputs: list[str], name: str) -> str:
    image, like = inputs
    ends = graph.add("Shape", [like], f"{name}_ends", start=SPATIAL[0])
    starts = graph.constant("crop_starts", [0, 0], np.int64)
    axes = graph.constant("crop_axes", SPATIAL, np.int64)
    return graph.add("Slice", [image, starts, ends, axes], name)


# Shot noise, see `emdn.networks.layers`.


def _stabilise(graph: Graph, layer: Any, inputs: list[str], name: str) -> str:
    scaled = graph.add("Mul", inputs, f"{name}_scaled")
    electrons = graph.add("Max", [scaled, graph.constant("zero", 0.0)], f"{name}_electrons")
    shifted = graph.constant("three_eighths", 3 / 8)
    root = graph.add(
        "Sqrt", [graph.add("Add", [electrons, shifted], f"{name}_sum")], f"{name}_root"
    )
    return graph.add("Mul", [root, graph.constant(f"{name}_factor", 2 / layer.unit)], name)


def _unstabilise(graph: Graph, layer: Any, inputs: list[str], name: str) -> str:
    stabilised, counts = inputs
    factor = graph.constant(f"{name}_factor", layer.unit / 2)
    scaled = graph.add("Mul", [stabilised, factor], f"{name}_scaled")
    root = graph.add("Max", [scaled, graph.constant("zero", 0.0)], f"{name}_root")
    square = graph.add("Mul", [root, root], f"{name}_square")
    shifted = graph.constant("three_eighths", 3 / 8)
    electrons = graph.add("Sub", [square, shifted], f"{name}_electrons")
    return graph.add("Div", [electrons, counts], name)


WRITERS: dict[str, Writer] = {
    "Conv2D": _convolution("Conv", (3, 2, 0, 1)),
    "DepthwiseConv2D": _convolution("Conv", (2, 3, 0, 1), each=True),
    "Conv2DTranspose": _convolution("ConvTranspose", (3, 2, 0, 1)),
    "Activation": _activation,
    "Add": _plain("Add"),
    "Subtract": _plain("Sub"),
    "Concatenate": _plain("Concat", axis=1),
    "BatchNormalization": _batch_normalisation,
    "FusedBatchNormalization": _batch_normalisation,
    "AveragePooling2D": _average_pooling,
    "BilinearUpsampling": _upsampling,
    "GetItem": _every_other_pixel,
    "CropLike": _crop_like,
    "SpaceToDepth": _plain("SpaceToDepth", blocksize=2),
    "DepthToSpace": _plain("DepthToSpace", blocksize=2, mode="DCR"),
    "Stabilise": _stabilise,
    "Unstabilise": _unstabilise,
}
"""What writes each operation, by the name of its class; a slice has no other."""


def to_onnx(model: keras.Model) -> onnx.ModelProto:
    """Return a network as an ONNX model that predicts the same.

    Parameters
    ----------
    model : keras.Model
        A network of `emdn.networks.build`, trained or not; it is left alone.

    Returns
    -------
    onnx.ModelProto
        Inputs ``noisy``, (n, h, w, 1) float32, and of a gain-aware network ``counts``,
        (n,) float32, which a pixel of 1 stands for; output ``denoised``, as ``noisy``.
        h and w are multiples of 16.

    Raises
    ------
    ValueError
        If the network has a layer of another kind than those of `build`.
    """
    graph = Graph()
    names = {"noisy": graph.add("Transpose", ["noisy"], "image", perm=[0, 3, 1, 2])}
    if gain_aware(model):
        shape = graph.constant("per_image", [-1, 1, 1, 1], np.int64)
        names["counts"] = graph.add("Reshape", ["counts", shape], "counts_per_image")
    sources = [tensor._keras_history.operation for tensor in model.inputs]
    made = {id(one): name for one, name in zip(sources, names.values(), strict=True)}
    for operation in model.operations:
        if id(operation) not in made:
            given = operation._inbound_nodes[0].input_tensors
            inputs = [made[id(tensor._keras_history.operation)] for tensor in given]
            made[id(operation)] = _writer(operation)(
                graph, operation, inputs, operation.name
            )
    last = made[id(model.outputs[0]._keras_history.operation)]
    graph.add("Transpose", [last], "denoised", perm=[0, 2, 3, 1])
    return _model(graph, list(names))


def _writer(operation: Any) -> Writer:
    kind = type(operation).__name__
    if kind not in WRITERS:
        raise ValueError(f"{operation.name}: a layer {kind} cannot be written as ONNX")
    return WRITERS[kind]


def _model(graph: Graph, inputs: list[str]) -> onnx.ModelProto:
    """Return a checked model of a graph."""
    shapes = {"noisy": ["n", "h", "w", 1], "counts": ["n"], "denoised": ["n", "h", "w", 1]}
    ends = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "emdn",
            [ends[name] for name in inputs],
            [ends["denoised"]],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="emdn",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write a network as an ONNX file, whole or not at all.

    Parameters
    ----------
    model : keras.Model
        A network of `emdn.networks.build`.
    path : Path
        File to write or to replace, ``.onnx``.

    Raises
    ------
    ValueError
        As `to_onnx`.
    """
    content = to_onnx(model).SerializeToString(deterministic=True)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
