"""By ncnn a network predicts what it does by ONNX Runtime; other networks are refused."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.graphs import of_kind, settle
from keras import layers
from onnx import helper, numpy_helper
from onnx.external_data_helper import set_external_data

from emdn.networks import build
from emdn.networks.dncnn import DnCNNConfig
from emdn.networks.ede2019 import TINY
from emdn.networks.onnx_graph import to_onnx, write_onnx
from emdn.networks.unet import UNetConfig
from emdn.weights import NAMES, load
from emdn.weights.ncnn_graph import to_ncnn

# ncnn is no part of the lock: .ci/bridges installs it and runs this.
by_ncnn = pytest.mark.skipif(find_spec("ncnn") is None, reason="ncnn is not installed")
on_linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux")

CONFIGS = {
    "U-Net": UNetConfig((16, 24, 32), (2, 1, 1)),
    "U-Net of four strides and odd channels": UNetConfig((3, 5, 7, 9), (1, 0, 1, 1)),
    "U-Net, blind": UNetConfig((4,), (1,), stabilised=False),
    "DnCNN": DnCNNConfig(depth=4, features=12),
}
SMALL = CONFIGS["U-Net, blind"]


def network(config, rng):
    """Return a network that changes images about as much as their noise does."""
    keras.utils.set_random_seed(0)
    model = settle(build(config), rng)
    last = of_kind(model, layers.Conv2D)[-1]
    last.kernel.assign(rng.normal(0, 0.005, last.kernel.shape))
    return model


# Damaged files.


def damaged(content, rng, number):
    """Return files that are damaged in some places, and each fourth is cut short too."""
    for each in range(number):
        changed = bytearray(content)
        for place in rng.integers(len(content), size=1 + each % 3):
            changed[place] = rng.integers(256)
        if each % 4 == 0:
            del changed[rng.integers(len(content)) :]
        yield bytes(changed)


def test_a_damaged_file_is_refused_and_never_crashes(rng):
    """Whatever is wrong with it: ncnn would read and write foreign memory."""
    refused = 0
    for content in damaged(to_onnx(network(SMALL, rng)).SerializeToString(), rng, 600):
        try:
            to_ncnn(content)
        except ValueError:
            refused += 1
    assert refused > 150


# What ncnn is not made for, or would not check.


def change_attribute(kind, name, value):
    def change(graph):
        node = next(each for each in graph.node if each.op_type == kind)
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def change_constant(ending, alter):
    def change(graph):
        found = next(each for each in graph.initializer if each.name.endswith(ending))
        values = alter(numpy_helper.to_array(found))
        found.CopyFrom(numpy_helper.from_array(values, found.name))

    return change


def change_input(kind, number, name):
    def change(graph):
        next(each for each in graph.node if each.op_type == kind).input[number] = name

    return change


def change_domain(graph):
    graph.node[1].domain = "other"


def move_into_another_file(graph):
    set_external_data(graph.initializer[0], "other")


FAULTS = {
    "groups": change_attribute("Conv", "group", 2),
    "stride": change_attribute("Conv", "strides", [2, 2]),
    "no stride": change_attribute("Conv", "strides", [0, 0]),
    "dilation": change_attribute("Conv", "dilations", [2, 2]),
    "padding": change_attribute("Conv", "pads", [0, 0, 0, 0]),
    "block": change_attribute("DepthToSpace", "blocksize", 4),
    "no block": change_attribute("SpaceToDepth", "blocksize", 0),
    "large block": change_attribute("SpaceToDepth", "blocksize", 32),
    "channels of a kernel": change_constant("kernel", lambda x: x[:, :1]),
    "no kernel": change_constant("kernel", lambda x: x[:0]),
    "length of a bias": change_constant("bias", lambda x: x[:-1]),
    "no number": change_constant("bias", lambda x: x * np.float32(np.nan)),
    "many numbers": change_constant("zero", lambda x: np.tile(x, 4)),
    "two sizes": change_input("Add", 1, "stabilise"),
    "what is not there": change_input("Relu", 0, "nothing"),
    "not of an image": change_input("Transpose", 0, "counts"),
    "another order": change_attribute("Transpose", "perm", [0, 3, 2, 1]),
    "another shape": change_constant("per_image", lambda x: x[::-1]),
    "another type": change_constant("bias", lambda x: x.view(np.int32)),
    "another domain": change_domain,
    "another file": move_into_another_file,
    "a setting that is new": change_attribute("ConvTranspose", "output_padding", [1, 1]),
}


@pytest.mark.parametrize("change", FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit_together_is_refused(change, rng):
    keras.utils.clear_session()
    model = to_onnx(network(UNetConfig((8, 8), (1, 1)), rng))
    to_ncnn(model.SerializeToString())
    change(model.graph)
    with pytest.raises(ValueError, match=r"^ncnn runs U-Net and DnCNN alone, |damaged"):
        to_ncnn(model.SerializeToString())


def test_the_papers_graph_is_refused():
    with pytest.raises(
        ValueError, match=r"ncnn runs U-Net and DnCNN alone.*; use backend o"
    ):
        to_ncnn(to_onnx(build(replace(TINY, output="relu6"))).SerializeToString())


@by_ncnn
@pytest.mark.parametrize("content", [b"", b"not a network", None], ids=["0", "text", "cut"])
def test_a_damaged_file_is_refused_in_one_line(content, rng, tmp_path):
    whole = to_onnx(network(SMALL, rng)).SerializeToString()
    (tmp_path / "bad.onnx").write_bytes(whole[:-100] if content is None else content)
    fault = r"bad\.onnx: is no network as an ONNX file, or is damaged \(\w+\); name another"
    with pytest.raises(ValueError, match=fault) as caught:
        load(tmp_path / "bad.onnx", backend="ncnn")
    assert "\n" not in str(caught.value)


@by_ncnn
@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # of huge weights
def test_ncnn_makes_of_a_damaged_file_what_onnx_runtime_makes_of_it(rng, tmp_path):
    path, compared = tmp_path / "bad.onnx", 0
    tiles = rng.uniform(size=(1, 32, 48)).astype(np.float32)
    for content in damaged(to_onnx(network(SMALL, rng)).SerializeToString(), rng, 200):
        path.write_bytes(content)
        try:
            found, expected = (
                load(path, backend=each)(tiles, 0.02) for each in ("ncnn", "onnx")
            )
        except ValueError:
            continue
        error = np.abs(found - expected).max()
        assert error <= 1e-5 * max(1, np.abs(expected).max())
        compared += 1
    assert compared > 50


# At work.


def assert_agree(path, rng):
    ours, theirs = (load(path, backend=each) for each in ("ncnn", "onnx"))
    assert ours.gain_aware == theirs.gain_aware
    for shape in ((1, 16, 16), (3, 32, 48), (2, 112, 16), (1, 304, 272)):
        tiles = rng.uniform(-0.2, 1.2, size=shape).astype(np.float32)
        for gain in (0.0005, 0.02, 0.5):
            expected = theirs(tiles, gain)
            assert np.abs(expected - tiles).max() > 0.01
            found = ours(tiles, gain)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@by_ncnn
def test_ncnn_and_onnx_runtime_agree(rng):
    assert_agree("auto", rng)


@by_ncnn
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_ncnn_and_onnx_runtime_agree_on_networks_of_ones_own(config, rng, tmp_path):
    write_onnx(network(config, rng), tmp_path / "own.onnx")
    assert_agree(tmp_path / "own.onnx", rng)


@by_ncnn
def test_onnx_runtime_stands_in_for_what_ncnn_does_not_run(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)  # else that is taken
    monkeypatch.setattr("emdn.weights.backends.DRIVERS", ())
    libraries = {name: load(name).backend.split()[0] for name in NAMES}
    assert libraries == {"auto": "ncnn"} | dict.fromkeys(NAMES[1:], "onnxruntime")
    with pytest.raises(ValueError, match=r"low\.onnx: ncnn runs .* use backend onnx$"):
        load("low", backend="ncnn")


@by_ncnn
def test_threads_of_a_caller_and_an_odd_layout_change_nothing(rng):
    network = load("auto", backend="ncnn")
    images = [rng.uniform(size=(2, 48, 16 * n)).astype(np.float32) for n in range(1, 9)]
    alone = [network(each, 0.02) for each in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: network(each, 0.02), images))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    turned = np.rot90(images[2], axes=(1, 2))
    whole = network(np.ascontiguousarray(turned), 0.02)
    np.testing.assert_array_equal(network(turned, 0.02), whole)
    assert network(images[0][:0], 0.02).shape == (0, 48, 16)


@by_ncnn
def test_a_tile_of_nan_is_refused(rng):
    tiles = rng.uniform(size=(1, 32, 32)).astype(np.float32)
    tiles[0, 5, 7] = np.nan
    with pytest.raises(ValueError, match="returned NaN or infinite pixels"):
        load("auto", backend="ncnn")(tiles, 0.02)


def in_a_process(code, **environment):
    """Return what code prints that has a network by ncnn and a tile."""
    start = (
        "import os, resource, numpy as np\n"
        "from emdn.weights import load\n"
        "network = load('auto', backend='ncnn')\n"
        "tile = np.zeros((1, 128, 128), np.float32)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@by_ncnn
@on_linux
@pytest.mark.parametrize("threads", [1, 3])
def test_it_takes_as_many_threads_as_it_may(threads):
    code = "network(tile, 0.02); print(len(os.listdir('/proc/self/task')))"
    told = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    out, err = in_a_process(code, **told)
    assert int(out) == threads
    assert err == ""


@by_ncnn
@on_linux
def test_the_environment_stays_as_it_was():
    told = {"OMP_WAIT_POLICY": "active"}
    for given in ({}, told):
        out, _ = in_a_process("print(os.environ.get('OMP_WAIT_POLICY'))", **given)
        assert out.strip() == given.get("OMP_WAIT_POLICY", "None")


@by_ncnn
@on_linux
def test_memory_does_not_grow():
    code = (
        "page = resource.getpagesize()\n"
        "def held(): return int(open('/proc/self/statm').read().split()[1]) * page\n"
        "for _ in range(5): network(tile, 0.02)\n"
        "before = held()\n"
        "for _ in range(50): network(tile, 0.02)\n"
        "print(held() - before)\n"
    )
    out, _ = in_a_process(code)
    assert int(out) < 2e6  # bytes; the maps of one tile have 10 MB


@by_ncnn
@on_linux
def test_too_large_a_tile_is_told_in_one_line():
    code = (
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 2 * 10**8,) * 2)\n"
        "try: network(np.zeros((1, 2048, 2048), np.float32), 0.02)\n"
        "except MemoryError as error: print(error)\n"
    )
    out, _ = in_a_process(code)
    expected = "not enough memory for a tile of 2048 x 2048 pixels; use a smaller tile_size"
    assert expected in out
    assert len(out.splitlines()) == 1


@by_ncnn
def test_a_result_tells_that_ncnn_made_it(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("noisy.npy", rng.poisson(30, (64, 80)))
    emdn = [sys.executable, "-c", "from emdn.cli import app; app()"]
    options = "--backend", "ncnn", "-o", "denoised.tif"
    subprocess.run([*emdn, "denoise", "noisy.npy", *options], check=True)
    told = subprocess.run([*emdn, "info", "denoised.tif"], capture_output=True, text=True)
    assert re.search(r"backend: ncnn [\d.]+, float32$", told.stdout, re.M)
