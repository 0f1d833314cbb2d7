"""Either library runs the networks alike; one rule chooses, and says what is missing."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from helpers.graphs import of_kind
from keras import layers

from emdn.denoiser import Denoiser
from emdn.metrics import mse
from emdn.networks import build
from emdn.networks.onnx_graph import to_onnx, write_onnx
from emdn.networks.unet import UNetConfig
from emdn.noise import noisy_pair
from emdn.specimens.micrographs import membranes
from emdn.weights import (
    NAMES,
    WEIGHTS,
    compile_network,
    find,
    load,
    read_model,
    shipped_hashes,
)
from emdn.weights.backends import (
    choose_backend,
    choose_precision,
    is_installed,
    threads,
)

SHAPES = [(1, 16, 16), (2, 96, 160), (3, 64, 48)]


def tiles(shape, rng):
    return rng.uniform(-0.2, 1.2, size=shape).astype(np.float32)


# The files that ship.


@pytest.mark.parametrize("name", NAMES)
def test_onnx_runtime_and_keras_agree(name, rng):
    ours, theirs = (load(name, backend=each) for each in ("onnx", "tensorflow"))
    assert ours.gain_aware == theirs.gain_aware
    for shape in SHAPES:
        noisy = tiles(shape, rng)
        for gain in (0.0005, 0.02, 0.5):
            np.testing.assert_allclose(ours(noisy, gain), theirs(noisy, gain), atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_that_ships_is_that_of_the_weights_that_ship(name):
    shipped = onnx.load(find(name, "onnx"))
    assert shipped.graph == to_onnx(read_model(name)).graph


def test_the_hashes_are_of_the_graphs_too():
    assert sorted(shipped_hashes(".onnx")) == [f"{name}.onnx" for name in NAMES]
    assert {path.name for path in WEIGHTS.glob("*.onnx")} == {*shipped_hashes(".onnx")}


# Which library.


def drawn(loaded=False, driver=False, installed=("tensorflow",)):
    """Return what "auto" is in a process of its own, which pretends."""
    code = [
        "import sys",
        "import emdn.weights.backends as backends",
        f"backends.has_gpu_driver = lambda: {driver}",
        f"backends.is_installed = lambda module: module in {installed}",
        f"sys.modules['tensorflow'] = sys if {loaded} else None",
        "print(backends.choose_backend())",
    ]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_tensorflow_is_taken_for_a_graphics_card_or_where_it_is_loaded():
    assert drawn() == "onnx"
    assert drawn(loaded=True) == "tensorflow"
    assert drawn(driver=True) == "tensorflow"
    assert drawn(driver=True, installed=()) == "onnx"


def test_ncnn_is_taken_where_it_is_installed_and_tensorflow_is_not_wanted():
    fast = ("ncnn", "onnx")
    assert drawn(installed=fast) == "ncnn"
    assert drawn(installed=(*fast, "tensorflow")) == "ncnn"
    assert drawn(driver=True, installed=fast) == "ncnn"
    assert drawn(driver=True, installed=(*fast, "tensorflow")) == "tensorflow"
    assert drawn(loaded=True, installed=(*fast, "tensorflow")) == "tensorflow"


@pytest.mark.parametrize("alone", ["ncnn", "onnx"])
def test_half_of_what_ncnn_needs_is_not_enough(alone, monkeypatch):
    """The package onnx reads a network for ncnn."""
    assert drawn(installed=(alone,)) == "onnx"
    monkeypatch.setattr("emdn.weights.backends.is_installed", lambda name: name == alone)
    with pytest.raises(ModuleNotFoundError, match=r"ncnn and onnx; pip .*emdn\[fast\]"):
        load("auto", backend="ncnn")
    assert load("auto", backend="onnx").backend.startswith("onnxruntime ")


def test_a_folder_of_the_name_of_a_package_is_none(tmp_path, monkeypatch):
    """As of a clone of its repository, beside a notebook."""
    (tmp_path / "no_such_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("numpy")
    assert not is_installed("no_such_package")


def test_what_a_caller_asks_for_is_taken():
    assert [choose_backend(each) for each in ("onnx", "tensorflow")] == [
        "onnx",
        "tensorflow",
    ]
    with pytest.raises(ValueError, match="backend must be one of auto, ncnn, onnx, t"):
        choose_backend("torch")


def test_the_kind_of_a_file_decides_which_library_runs_it(tmp_path, rng):
    model = build(UNetConfig((4,), (1,)))
    of_kind(model, layers.Conv2D)[-1].bias.assign([0.1, 0.2, 0.3, 0.4])
    model.save(tmp_path / "own.keras")
    write_onnx(model, tmp_path / "own.onnx")
    networks = [load(tmp_path / name) for name in ("own.onnx", "own.keras")]
    assert [each.backend.split()[0] for each in networks] == ["onnxruntime", "tensorflow"]
    noisy = tiles((2, 32, 48), rng)
    one, other = (network(noisy, 0.02) for network in networks)
    np.testing.assert_allclose(one, other, atol=1e-6)
    with pytest.raises(ValueError, match=r"backend onnx runs files that end in \.onnx"):
        Denoiser(tmp_path / "own.keras", backend="onnx")
    with pytest.raises(ValueError, match=r"backend tensorflow runs files that end in \.k"):
        Denoiser(tmp_path / "own.onnx", backend="tensorflow")


def test_a_graph_without_its_keras_file_cannot_be_trained_on(tmp_path):
    write_onnx(build(UNetConfig((4,), (1,))), tmp_path / "own.onnx")
    with pytest.raises(FileNotFoundError, match=r"no own\.keras is beside it"):
        read_model(tmp_path / "own.onnx")


WHOLE = find("low", "onnx").read_bytes()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a network", WHOLE[:50_000], WHOLE.replace(b"denoised", b"denoise\xff")],
    ids=["no bytes", "text", "cut short", "no letters"],
)
def test_a_damaged_graph_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.onnx: is no network as an ONNX") as caught:
        load(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "shape", "kind"),
    [
        (("x", "y"), ["n", "h", "w", 1], "FLOAT"),
        (("noisy", "denoised"), ["n", 1, "h", "w"], "FLOAT"),  # channels in front
        (("noisy", "denoised"), ["n", "h", "w", 3], "FLOAT"),
        (("noisy", "denoised"), [1, 256, 256, 1], "FLOAT"),  # of one size only
        (("noisy", "denoised"), ["n", "h", "w", 1], "DOUBLE"),
        (("noisy", "denoised"), ["n"], "FLOAT"),
    ],
)
def test_a_graph_of_something_else_is_refused(names, shape, kind, tmp_path):
    number = onnx.TensorProto.DataType.Value(kind)
    ends = [onnx.helper.make_tensor_value_info(name, number, shape) for name in names]
    node = onnx.helper.make_node("Identity", names[:1], names[1:])
    graph = onnx.helper.make_graph([node], "other", ends[:1], ends[1:])
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ValueError, match=r"odd\.onnx: must hold a network that emdn"):
        load(tmp_path / "odd.onnx")


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"])
def test_a_user_says_how_many_threads(variable, monkeypatch):
    for each in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.delenv(each, raising=False)
    assert threads() >= 1
    monkeypatch.setenv(variable, "3")
    assert threads() == 3


# Precision.

FLAGS = "flags\t\t: fpu vme avx2 avx512f avx512_vnni"
PROCESSORS = {
    f"{FLAGS}\n": "float32",
    f"{FLAGS} avx512_bf16\n": "bfloat16",
    f"{FLAGS} amx_tile amx_bf16 amx_int8\nbugs\t\t:\n": "bfloat16",
    f"{FLAGS} avx512_bf16_of_the_future\n": "float32",
    "": "float32",
}


@pytest.mark.parametrize(("cpuinfo", "expected"), PROCESSORS.items())
def test_bfloat16_is_taken_on_processors_that_have_it(cpuinfo, expected, monkeypatch):
    monkeypatch.setattr("emdn.weights.backends.DRIVERS", ())

    def chosen(precision, *, tensorflow=True):
        return choose_precision(precision, tensorflow=tensorflow, cpuinfo=cpuinfo)

    assert chosen("auto") == expected
    assert chosen("float32") == chosen("auto", tensorflow=False) == "float32"
    if expected == "bfloat16":
        assert chosen("bfloat16") == "bfloat16"
        with pytest.raises(ValueError, match="bfloat16 needs backend tensorflow"):
            chosen("bfloat16", tensorflow=False)
    else:
        with pytest.raises(ValueError, match=r"needs backend .* a processor with amx_bf16"):
            chosen("bfloat16")


@pytest.mark.parametrize("name", ["auto", "compact", "low"])
def test_bfloat16_hardly_changes_the_error(name, rng):
    """Measured where processors have it, the ratio of errors is 1.0001."""
    clean = membranes((64, 64), rng)
    exact, half = (
        compile_network(find(name), read_model(name), each)
        for each in ("float32", "bfloat16")
    )
    assert half.backend.endswith("bfloat16")
    errors = []
    for scale in (30.0, 100.0, 400.0):
        noisy, truth, gain = noisy_pair(clean, scale, rng)
        one, other = (each(noisy[np.newaxis], gain)[0] for each in (exact, half))
        assert 1e-5 < np.abs(one - other).max() < 0.03
        errors.append((mse(one, truth), mse(other, truth)))
    before, after = np.sum(errors, axis=0)
    assert after / before == pytest.approx(1, abs=0.01)
