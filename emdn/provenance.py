"""Where a result comes from, written into its file, and whether it is the one wanted.

>>> told = {DENOISED_BY: "emdn 1.0", "options": "clip True, dtype float32"}
>>> differences(told, told | {"options": "clip False, dtype float32"})
['other options']
>>> differences({}, told)
['nothing that emdn wrote']
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from emdn import __version__
from emdn.denoiser import Denoiser, Told
from emdn.files import sha256
from emdn.io.metadata import Fact

DENOISED_BY = "denoised by"
"""Name of the fact by which a result says that it is one."""

WEIGHTS, HASH = "weights", "weights sha256"
DETECTOR, ADAPTED = "detector of the input", "adapted"
OPTIONS, INPUT = "options", "input sha256"
SETTINGS = ("tile_size", "overlap", "clip", "quality")  # of a denoiser, that change pixels


def provenance(
    source: Path,
    noise_remover: Denoiser,
    told: Told,
    options: Mapping[str, Any],
    *,
    measured: str | None = None,
    adapted: str | None = None,
) -> dict[str, Fact]:
    """Return where a result comes from: what its file should tell in a year.

    Parameters
    ----------
    source : Path
        The input. The hash of a folder, as of a Zarr store, is not taken.
    noise_remover : Denoiser
        The network, and how it is applied.
    told : Told
        What is known of the detector.
    options : mapping
        How the input was read and the result written.
    measured, adapted : str, optional
        What was measured of the detector, and what became of adapting to it, in words.
    """
    pieces = {name: getattr(told, name) for name in ("gain", "offset", "readout")}
    known = ", ".join(f"{n} {value:g}" for n, value in pieces.items() if value is not None)
    found = f"measured: {measured}" if measured else "not measured"
    facts: dict[str, Fact] = {DENOISED_BY: f"emdn {__version__}"}
    if isinstance(weights := noise_remover.weights, Path):
        facts |= {WEIGHTS: weights.name, HASH: sha256(weights)}
    facts["backend"] = noise_remover.network.backend
    if adapted:
        facts[ADAPTED] = adapted
    facts[DETECTOR] = f"told: {known}" if known else found
    settings = {name: getattr(noise_remover, name) for name in SETTINGS} | dict(options)
    facts[OPTIONS] = ", ".join(f"{name} {value}" for name, value in settings.items())
    if source.is_file():
        facts[INPUT] = sha256(source)
    return facts


def twins(noise_remover: Denoiser) -> set[str]:
    """Return the hashes of all files of the network, for one backend and for the other.

    They stand in ``SHA256SUMS`` beside weights that ship; of others there are none.
    """
    weights = noise_remover.weights
    if not isinstance(weights, Path):
        return set()
    sums = weights.with_name("SHA256SUMS")
    lines = sums.read_text().splitlines() if sums.is_file() else []
    named = (line.split(maxsplit=1) for line in lines)
    return {digest for digest, name in named if Path(name).stem == weights.stem}


def differences(
    found: Mapping[str, Fact], wanted: Mapping[str, Fact], alike: Collection[str] = ()
) -> list[str]:
    """Return in which words a result is another than is wanted; none if it is the one.

    Versions and backends do not count, which change pixels by rounding at most, nor does
    what a file had no place for.

    Parameters
    ----------
    found : mapping
        Facts in the file of the result.
    wanted : mapping
        What `provenance` says before the work.
    alike : collection of str
        Hashes of weights that are the same network, see `twins`.
    """
    if DENOISED_BY not in found:
        return ["nothing that emdn wrote"]
    told, expected = (str(each.get(DETECTOR, "")) for each in (found, wanted))
    either = any(each.startswith("told") for each in (told, expected))
    same = all(each.get(HASH) in alike for each in (found, wanted))
    differing = {
        "other weights": _other(HASH, found, wanted) and not same,
        "another detector": either and _other(DETECTOR, found, wanted),
        "other options": _other(OPTIONS, found, wanted),
        "adapted or not": (ADAPTED in found) != (ADAPTED in wanted),
        "another input": _other(INPUT, found, wanted),
    }
    return [words for words, differ in differing.items() if differ]


def _other(name: str, found: Mapping[str, Fact], wanted: Mapping[str, Fact]) -> bool:
    """Say whether a fact that both tell is told in another way."""
    return name in found and name in wanted and found[name] != wanted[name]
