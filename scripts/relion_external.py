#!/usr/bin/env python
"""Denoise the micrographs of a RELION project, as a job of type External.

    relion_external.py --in_mics MotionCorr/job002/corrected_micrographs.star \
        --o External/job005/ --j 4

RELION 4 and 5 start it like this from the folder of the project. What is denoised already
is not denoised again, so a stopped job can be continued. It needs the package starfile.
"""

import argparse
import sys
from pathlib import Path

import starfile

from emdn import Denoiser
from emdn.io import MicrographError, read_micrograph, write_micrograph

MICROGRAPHS, NAME = "micrographs", "rlnMicrographName"
STARTED_BY_JOBS = 2  # folders that a job's files begin with: type and number of the job
KIND = "MicrographGroupMetadata.star.relion"  # what RELION calls a list of micrographs


def denoise_job(
    micrographs: Path, job: Path, noise_remover: Denoiser, gain: float | None
) -> Path:
    """Denoise all micrographs of a STAR file into the folder of a job.

    Parameters
    ----------
    micrographs : Path
        STAR file of a job before, whose names count from the folder of the project.
    job : Path
        Folder of this job, made if missing.
    noise_remover : Denoiser
        How to denoise.
    gain : float, optional
        What one electron adds to a pixel; measured in each micrograph if it is None.

    Returns
    -------
    Path
        STAR file of the denoised micrographs, with all other columns as they were.

    Raises
    ------
    ValueError
        If the STAR file lists no micrographs, or two of the same name.
    emdn.io.MicrographError
        If a micrograph cannot be read.
    """
    tables = starfile.read(micrographs, always_dict=True)
    if MICROGRAPHS not in tables or NAME not in tables[MICROGRAPHS]:
        raise ValueError(f"{micrographs}: lists no micrographs; choose a micrographs.star")
    names = [str(name) for name in tables[MICROGRAPHS][NAME]]
    targets = [job / _own_part(Path(name)) for name in names]
    if len({*targets}) < len(targets):
        raise ValueError(
            f"{micrographs}: two micrographs have one name; rename one of them"
        )
    for number, (name, target) in enumerate(zip(names, targets, strict=True), start=1):
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            image, metadata = read_micrograph(name)
            # Whole or not at all, so that what is there need not be done again.
            write_micrograph(target, noise_remover.denoise(image, gain=gain), metadata)
        print(f"{number} of {len(names)}: {target}", flush=True)
    tables[MICROGRAPHS][NAME] = [str(target) for target in targets]
    listed = job / "micrographs.star"
    starfile.write(tables, listed, overwrite=True)
    return listed


def _own_part(name: Path) -> Path:
    """Return a name without the job that made the file, ``MotionCorr/job002/``."""
    of_job = len(name.parts) > STARTED_BY_JOBS and name.parts[1].startswith("job")
    return Path(*name.parts[STARTED_BY_JOBS:]) if of_job else Path(name.name)


def _tell_relion(job: Path, listed: Path) -> None:
    """Tell RELION what other jobs can take from this one."""
    (job / "RELION_OUTPUT_NODES.star").write_text(
        "data_output_nodes\nloop_\n_rlnPipeLineNodeName #1\n_rlnPipeLineNodeTypeLabel #2\n"
        f"{listed} {KIND}\n"
    )


def main() -> None:
    """Do the job, and leave the file by which RELION knows how it ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--in_mics", type=Path, required=True, help="STAR file")
    parser.add_argument("--o", type=Path, required=True, help="folder of this job")
    parser.add_argument("--j", type=int, help="threads, which RELION tells; not used")
    parser.add_argument("--weights", default="auto", help="a name or a file")
    parser.add_argument("--gain", type=float, help="what one electron adds to a pixel")
    told = parser.parse_args()
    told.o.mkdir(parents=True, exist_ok=True)
    for ending in ("SUCCESS", "FAILURE"):
        (told.o / f"RELION_JOB_EXIT_{ending}").unlink(missing_ok=True)
    try:
        noise_remover = Denoiser(told.weights, progress=False)
        _tell_relion(told.o, denoise_job(told.in_mics, told.o, noise_remover, told.gain))
    except (MicrographError, OSError, ValueError) as error:
        (told.o / "RELION_JOB_EXIT_FAILURE").touch()
        sys.exit(f"{error}")
    (told.o / "RELION_JOB_EXIT_SUCCESS").touch()


if __name__ == "__main__":
    main()
