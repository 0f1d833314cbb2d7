"""The job for RELION, on files as RELION 4 and 5 write them."""

import os
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from emdn import Denoiser

pytest.importorskip("starfile")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMES = ["MotionCorr/job002/Movies/a.mrc", "MotionCorr/job002/Movies/b.mrc"]
STAR = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnVoltage #4
opticsGroup1 1 0.885000 200.000000


# version 30001

data_micrographs

loop_
_rlnCtfPowerSpectrum #1
_rlnMicrographName #2
_rlnOpticsGroup #3
_rlnAccumMotionTotal #4
MotionCorr/job002/Movies/a_PS.mrc MotionCorr/job002/Movies/a.mrc 1 16.420495
MotionCorr/job002/Movies/b_PS.mrc MotionCorr/job002/Movies/b.mrc 1 19.551679
"""


@pytest.fixture
def project(frames, tmp_path):
    """Return the folder of a project with two micrographs after motion correction."""
    for name, frame in zip(NAMES, frames, strict=False):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with mrcfile.new(path, frame) as file:
            file.voxel_size = 0.885
    (tmp_path / "MotionCorr/job002/corrected_micrographs.star").write_text(STAR)
    return tmp_path


def start(project, *more, star="MotionCorr/job002/corrected_micrographs.star"):
    """Start the job as RELION does."""
    script = ROOT / "scripts" / "relion_external.py"
    told = ["--in_mics", star, "--o", "External/job005/", "--j", "2", *more]
    return subprocess.run(
        [sys.executable, script, *told],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def endings(job):
    return sorted(path.name for path in job.glob("RELION_JOB_EXIT_*"))


def test_micrographs_are_denoised_and_listed(project, frames):
    import starfile

    told = start(project)
    job = project / "External/job005"
    assert told.returncode == 0, told.stderr
    assert endings(job) == ["RELION_JOB_EXIT_SUCCESS"]
    nodes = starfile.read(job / "RELION_OUTPUT_NODES.star")
    (listed,) = nodes["rlnPipeLineNodeName"]
    before = starfile.read(project / "MotionCorr/job002/corrected_micrographs.star")
    after = starfile.read(project / listed)
    assert after["optics"].equals(before["optics"])
    others = [name for name in before["micrographs"] if name != "rlnMicrographName"]
    assert after["micrographs"][others].equals(before["micrographs"][others])
    for name, frame in zip(after["micrographs"]["rlnMicrographName"], frames, strict=False):
        with mrcfile.open(project / name) as file:
            assert file.voxel_size.x == pytest.approx(0.885)
            expected = Denoiser(progress=False).denoise(frame)
            np.testing.assert_allclose(file.data, expected, atol=1e-3)


def test_a_stopped_job_goes_on_and_a_damaged_file_fails(project):
    (project / NAMES[1]).write_bytes(b"no MRC")
    told = start(project, "--weights", "low")
    job = project / "External/job005"
    assert told.returncode == 1
    assert endings(job) == ["RELION_JOB_EXIT_FAILURE"]
    assert len(told.stderr.strip().splitlines()) == 1
    assert NAMES[1] in told.stderr
    first = job / "Movies/a.mrc"
    written = first.stat().st_mtime_ns
    (project / NAMES[1]).write_bytes((project / NAMES[0]).read_bytes())
    assert start(project, "--weights", "low").returncode == 0
    assert endings(job) == ["RELION_JOB_EXIT_SUCCESS"]
    assert first.stat().st_mtime_ns == written
    assert (job / "Movies/b.mrc").exists()


def test_what_lists_no_micrographs_is_refused(project):
    (project / "other.star").write_text("data_optics\n\nloop_\n_rlnOpticsGroup #1\n1\n")
    told = start(project, star="other.star")
    assert told.returncode == 1
    assert "other.star: lists no micrographs" in told.stderr
