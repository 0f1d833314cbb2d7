"""What `pip install emdn` brings denoises, without TensorFlow, Keras and onnx."""

import subprocess
import sys

import numpy as np
import pytest

from emdn.specimens.micrographs import membranes

WITHOUT = """
import sys
others = ["tensorflow", "keras", "onnx", "ncnn", "matplotlib", "pandas"]
sys.modules |= dict.fromkeys(others)
"""


def python(code, *arguments):
    """Run code in a process that can import nothing but what every user has."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT + code, *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def emdn(*arguments):
    return python("from emdn.cli import app; app()", *arguments)


@pytest.fixture
def noisy(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "noisy.npy"
    np.save(path, rng.poisson(60 * membranes((64, 96), rng)))
    return path


def test_arrays_are_denoised(noisy):
    done = python(
        "import numpy as np; from emdn import Denoiser\n"
        "image = np.load(sys.argv[1])\n"
        "from emdn.weights import NAMES\n"
        "for name in NAMES:\n"
        "    denoised = Denoiser(name).denoise(image)\n"
        "    assert denoised.std() < image.std() and denoised.shape == image.shape\n"
        "print(Denoiser().network.backend)",
        noisy,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("onnxruntime ")


def test_what_takes_long_to_import_is_left_alone(noisy):
    code = "from emdn.cli import app; app(standalone_mode=False); print(*sys.modules)"
    done = python(code, "denoise", noisy, "-o", noisy.with_suffix(".tif"))
    assert done.returncode == 0, done.stderr
    slow = {"scipy.optimize", "scipy.stats", "distributed", "zarr", "h5py", "skimage"}
    assert slow.isdisjoint(done.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("denoise", "noisy.npy", "--quality", "best"),
        ("report", "noisy.npy", "--uncertainty", "--consistency"),
        ("plan", "noisy.npy", "--doses", "10,30"),
        ("info",),
        ("info", "noisy.npy"),
        ("--help",),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_command_works(arguments, noisy, monkeypatch):
    monkeypatch.chdir(noisy.parent)
    done = emdn(*arguments)
    assert done.returncode == 0, done.stderr
    if arguments[0] == "denoise":
        assert np.isfinite(np.load(noisy)).all()
        assert noisy.with_name("noisy_denoised.tif").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--config", "recipe.yml", "-o", "run"),
        ("denoise", "noisy.npy", "--adapt"),
        ("denoise", "noisy.npy", "--backend", "tensorflow"),
        ("denoise", "noisy.npy", "--weights", "own.keras"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_what_needs_training_names_its_extra_in_one_line(arguments, noisy, monkeypatch):
    monkeypatch.chdir(noisy.parent)
    (noisy.parent / "own.keras").write_bytes(b"")
    done = emdn(*arguments)
    assert done.returncode == 1
    assert 'pip install "emdn[train]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not list(noisy.parent.glob("*.tif"))


def test_ncnn_names_its_extra_in_one_line(noisy):
    done = emdn("denoise", noisy, "--backend", "ncnn")
    assert done.returncode == 1
    assert 'backend ncnn needs ncnn and onnx; pip install "emdn[fast]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_adapting_from_python_names_the_extra(noisy):
    done = python(
        "import numpy as np; from emdn import Denoiser\n"
        "try:\n    Denoiser().adapt(np.load(sys.argv[1]))\n"
        "except ModuleNotFoundError as error:\n    print(error)",
        noisy,
    )
    assert 'adaptation needs TensorFlow and Keras; pip install "emdn[train]"' in done.stdout
