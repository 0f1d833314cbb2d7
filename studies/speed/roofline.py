"""What the processor allows the networks: a roofline of each operation.

    python studies/speed/roofline.py

An operation takes at least as long as its multiplications at the measured peak, and as the
bytes that it reads and writes at the measured bandwidth of the memory, whichever is longer
(S. Williams et al., Commun. ACM 52 (2009) 65). Two ways to run a network are compared: each
operation reads and writes the memory, or what lies between a depthwise convolution, the
pointwise one behind it and what follows both pixel by pixel stays in the cache. The
measured time is that of ONNX Runtime on the same image and one thread.
"""

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import keras
import numpy as np
from keras import layers

from emdn.networks.inference import fold_batch_norms, output_shapes
from emdn.weights import NAMES, load, read_model

RESULT = Path(__file__).parents[1] / "results" / "roofline.csv"
SIDE = 512  # pixels
GEMM = 2048  # side of the matrices whose product shows the peak
COPIED = 2**26  # float32 numbers whose copy shows the bandwidth: more than a cache holds
ROUNDS = 5
NUMBER = 4  # bytes of a float32


class Operation(NamedTuple):
    """What an operation computes, reads and writes, for one image."""

    macs: int  # multiplications and additions
    apart: int  # bytes, if all that it makes goes to the memory
    fused: int  # bytes, if what is made and used pixel by pixel stays in the cache


def fastest(call: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some calls, which others disturbed least."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak() -> float:
    """Return multiplications and additions per second of a product of matrices."""
    matrix = np.random.default_rng(0).normal(size=(GEMM, GEMM)).astype(np.float32)
    return GEMM**3 / fastest(lambda: matrix @ matrix)


def bandwidth() -> float:
    """Return bytes per second that a copy reads and writes."""
    source, target = np.ones(COPIED, np.float32), np.zeros(COPIED, np.float32)
    return 2 * source.nbytes / fastest(lambda: np.copyto(target, source))


def operations(model: keras.Model) -> list[Operation]:
    """Return what each layer takes, batch normalisations folded."""
    folded = fold_batch_norms(model)
    used = [each for each in folded.layers if not isinstance(each, layers.InputLayer)]
    shapes = output_shapes(folded, used, (SIDE, SIDE))
    sizes = {
        id(layer): int(np.prod(shape[1:]))
        for layer, shape in zip(used, shapes, strict=True)
    }
    return [operation(layer, sizes) for layer in used]


def operation(layer: Any, sizes: dict[int, int]) -> Operation:
    """Return what a layer takes, from the numbers that each layer makes."""
    inputs = layer.input if isinstance(layer.input, list) else [layer.input]
    sources = [each._keras_history.operation for each in inputs]
    read = [sizes.get(id(each), SIDE**2) for each in sources]  # the image is no layer
    made, weights = sizes[id(layer)], layer.count_params()
    apart = sum(read) + made + weights
    if isinstance(layer, layers.DepthwiseConv2D):
        fused = sum(read) + weights
    elif isinstance(sources[0], layers.DepthwiseConv2D):
        fused = made + weights
    elif isinstance(layer, layers.Conv2D | layers.Conv2DTranspose):
        fused = apart
    else:  # pixel by pixel, of which all but the first image is read for it alone
        fused = sum(read[1:])
    return Operation(macs(layer, made), NUMBER * apart, NUMBER * fused)


def macs(layer: Any, made: int) -> int:
    """Return the multiplications of a layer that makes so many numbers."""
    if isinstance(layer, layers.DepthwiseConv2D):
        return made * int(np.prod(layer.kernel_size))
    if isinstance(layer, layers.Conv2DTranspose):
        return (
            made
            * int(np.prod(layer.kernel.shape))
            // layer.filters
            // layer.strides[0] ** 2
        )
    if isinstance(layer, layers.Conv2D):
        return made * int(np.prod(layer.kernel.shape)) // layer.filters
    return 0


def main() -> None:
    """Measure the processor and the networks, print a table and write it."""
    tile, gain = np.ones((1, SIDE, SIDE), np.float32), 1 / 60
    speed, flow = peak(), bandwidth()
    print(f"peak {speed / 1e9:.1f} GMAC/s, memory {flow / 1e9:.1f} GB/s, one thread")
    rows = []
    for name in NAMES:
        counted, network = operations(read_model(name)), load(name, backend="onnx")
        network(tile, gain)
        seconds = fastest(lambda network=network: network(tile, gain))
        ideal = sum(each.macs for each in counted) / speed
        least = {
            way: sum(max(each.macs / speed, getattr(each, way) / flow) for each in counted)
            for way in ("apart", "fused")
        }
        rows.append(
            {
                "network": name,
                "gmac": round(sum(each.macs for each in counted) / 1e9, 2),
                "peak_gmac_s": round(speed / 1e9, 1),
                "memory_gb_s": round(flow / 1e9, 1),
                "measured_s": round(seconds, 3),
                "share_of_peak": round(ideal / seconds, 2),
                "roof_apart": round(ideal / least["apart"], 2),
                "roof_fused": round(ideal / least["fused"], 2),
                "load": round(os.getloadavg()[0], 1),
            }
        )
        print(rows[-1])
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
