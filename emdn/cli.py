"""The command line: `emdn demo`, `denoise`, `report`, `plan`, `train` and others."""

import inspect
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
import typer

from emdn import __version__
from emdn.batch import (
    Batch,
    Done,
    Format,
    Job,
    PixelType,
    denoise_file,
    denoise_files,
    plan,
    stem_of,
)
from emdn.cluster import Compute, computing
from emdn.console import load_tensorflow, progress
from emdn.denoiser import Denoiser, Quality
from emdn.detector import Detector
from emdn.files import sha256, written_whole
from emdn.io import (
    WRITABLE,
    Metadata,
    MicrographError,
    list_images,
    read_micrograph,
    write_micrograph,
)
from emdn.io.metadata import LENGTHS
from emdn.weights import NAMES, WEIGHTS, Network, load, read_model
from emdn.weights.backends import (
    Backend,
    Precision,
    choose_backend,
    is_installed,
    require_training,
)

EXAMPLES = """
[bold]Examples[/bold]

  emdn denoise noisy.dm4    (writes noisy_denoised.tif)

  emdn denoise session/*.mrc more/ -o denoised/ --format mrc

  emdn denoise velox.emd --image HAADF -o denoised.tif

  emdn denoise counts.mrc --adapt --quality best --save-weights specimen.keras

  emdn denoise session/ -o denoised/ --scheduler tcp://head:8786
"""

app = typer.Typer(
    help="Denoise electron micrographs.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)


# The defaults of `emdn denoise` are those of the class.
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(Denoiser.__init__).parameters.items()
}


BACKEND = typer.Option(
    help="What runs the network: auto is ONNX Runtime, or ncnn if it is installed, or "
    "TensorFlow if it is installed and this machine has the driver of a graphics card."
)


@app.command(epilog=EXAMPLES)
def denoise(
    inputs: Annotated[
        list[Path], typer.Argument(help="Micrographs, stacks, or folders of them.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help=f"A file ({', '.join(WRITABLE)}) for a single input; otherwise a folder, "
            "made if missing. By default NAME_denoised beside each input.",
        ),
    ] = None,
    suffix: Annotated[
        Format, typer.Option("--format", help="Format of files that -o does not name.")
    ] = "tif",
    dtype: Annotated[
        PixelType,
        typer.Option(help="Type of the pixels: same rounds and clips to the input's."),
    ] = Batch.dtype,
    image: Annotated[
        str | None,
        typer.Option(help="Name or number of the image, in files of several."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All images of a file, each into its own.")
    ] = False,
    weights: Annotated[
        str,
        typer.Option(
            help="auto, which is gain-aware and fits all doses; compact, the same in less "
            "time with more error; low or ordinary, which are blind; or a file of your "
            "own, .onnx or .keras."
        ),
    ] = "auto",
    gain: Annotated[
        float | None,
        typer.Option(help="What an electron adds to a pixel; measured if not given."),
    ] = None,
    offset: Annotated[
        float | None,
        typer.Option(help="Grey level of no electrons; measured if not given."),
    ] = None,
    readout: Annotated[
        float | None,
        typer.Option(help="Noise of the electronics, in electrons, beside a gain."),
    ] = None,
    tile_size: Annotated[
        int, typer.Option(help="Largest side of a tile, in pixels.")
    ] = DEFAULTS["tile_size"],
    overlap: Annotated[
        int, typer.Option(help="Margin dropped around a tile, in pixels.")
    ] = DEFAULTS["overlap"],
    batch_size: Annotated[
        int, typer.Option(help="Tiles computed at once; takes memory.")
    ] = DEFAULTS["batch_size"],
    clip: Annotated[bool, typer.Option(help="Keep within the input's range.")] = DEFAULTS[
        "clip"
    ],
    quality: Annotated[
        Quality,
        typer.Option(
            help="best averages eight symmetries: mostly about 1 % less error, in eight "
            "times the time."
        ),
    ] = DEFAULTS["quality"],
    backend: Annotated[Backend, BACKEND] = DEFAULTS["backend"],
    precision: Annotated[
        Precision,
        typer.Option(help="auto is bfloat16 by TensorFlow on processors that have it."),
    ] = DEFAULTS["precision"],
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="Adapt the network to each image or stack of counts first, and keep that "
            "if counts held out say that it is better. Takes about half a minute.",
        ),
    ] = False,
    save_weights: Annotated[
        Path | None,
        typer.Option(
            help="File for the adapted weights, .keras; --weights uses them again."
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler, tcp://host:8786, whose workers compute: the "
            "files of a batch, or the pieces of a single or large one."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
) -> None:
    """Denoise micrographs: TIFF, MRC, DM3, DM4, SER, EMD, HDF5, Zarr, PNG, NPY and more.

    Of several inputs, those whose results are there already are skipped: a batch that was
    interrupted goes on. Results of other weights, options or inputs are left as they are,
    and count as failures. So does a file of more than 8192 x 8192 pixels, which is denoised
    piece by piece in little memory; its pieces wait in a hidden folder beside the result.
    """
    signal.signal(signal.SIGTERM, _leave)  # so that nothing half-written stays behind
    try:
        jobs = plan(inputs, output, suffix=suffix)
        many = len(jobs) > 1 or every
        wanted: Any = {"gain": gain, "offset": offset, "readout": readout}
        wanted |= {"adapt": adapt, "save_weights": save_weights}
        batch = Batch(image, every, dtype, overwrite=overwrite, skip=many, **wanted)
        if many and save_weights is not None:
            fault = f"cannot hold the weights of {len(jobs)} inputs"
            raise ValueError(f"{save_weights}: {fault}; denoise them one by one")
        if not many:
            _refuse_taken(jobs[0].target, overwrite=overwrite)
        noise_remover = Denoiser(
            weights,
            tile_size=tile_size,
            overlap=overlap,
            batch_size=batch_size,
            clip=clip,
            quality=quality,
            backend=backend,
            precision=precision,
            progress=False,  # of tiles; a bar of files is shown
        )
        if adapt:
            require_training("--adapt")
        _load_quietly(noise_remover)  # only now that nothing is wrong with names of files
    except (ValueError, OSError, ImportError) as error:
        _fail(error)
    failures = skipped = 0
    others: list[list[str]] = []
    cluster = _extra("cluster") if scheduler else nullcontext()
    try:
        with cluster, computing(scheduler) as compute:
            outcomes = _denoised(jobs, noise_remover, batch, compute if scheduler else None)
            for job, outcome in outcomes:
                if isinstance(outcome, Exception):
                    text = str(outcome)
                    named = isinstance(outcome, MicrographError)
                    _say(text if named else f"{job.source}: {text}", "red")
                    failures += 1
                else:
                    _tell(job, outcome)
                    skipped += outcome.skipped and not outcome.differs
                    others += [outcome.differs] if outcome.differs else []
    except ValueError as error:  # no scheduler answers
        _fail(error)
    if skipped:
        text = f"{skipped} of {len(jobs)} results are there already"
        _say(f"{text}; --overwrite replaces them.", "yellow")
    if others:
        how = ", ".join(dict.fromkeys(words for each in others for words in each))
        text = f"{len(others)} of {len(jobs)} results were made otherwise ({how})"
        _say(f"{text}, and left; --overwrite makes them anew.", "red")
    if failures:
        _say(f"{failures} of {len(jobs)} files failed.", "red")
    if failures or others:
        raise typer.Exit(1)


def _denoised(
    jobs: list[Job], noise_remover: Denoiser, batch: Batch, compute: Compute[Any] | None
) -> Iterator[tuple[Job, Done | Exception]]:
    """Yield what becomes of each image, and show how far the work is."""
    with progress(len(jobs), description="Denoising", show=None) as advance:
        if compute is not None:
            for job, outcome in denoise_files(jobs, noise_remover, batch, compute=compute):
                for each in outcome if isinstance(outcome, list) else [outcome]:
                    yield job, each
                advance(1)
            return
        for job in jobs:

            def show(part: int, parts: int, name: str = job.source.name) -> None:
                advance(0, f"{name}, part {part} of {parts}" if parts > 1 else name)

            advance(0, job.source.name)
            try:
                for done in denoise_file(job, noise_remover, batch, advance=show):
                    yield job, done
            except (ValueError, OSError) as error:
                yield job, error
            advance(1)


def _tell(job: Job, done: Done) -> None:
    """Print what became of an image."""
    for note in done.notes:
        _say(f"{job.source}: {note}", "yellow")
    if not done.skipped:
        typer.echo(f"{job.source} -> {done.target}")
    if done.measured:
        typer.echo(f"  {done.measured}")
    if done.adapted:
        typer.echo(f"  {done.adapted}")


def _refuse_taken(target: Path, *, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        remedy = "use --overwrite to replace it"
        raise MicrographError(f"{target}: exists already; {remedy}")


def _load_quietly(noise_remover: Denoiser) -> Network:
    """Load the network, and keep TensorFlow quiet if it runs that."""
    weights = noise_remover.weights
    if isinstance(weights, Path) and weights.suffix != ".onnx":
        with suppress(ModuleNotFoundError):  # which loading the network tells better
            load_tensorflow()
    return noise_remover.network


def _leave(*_: object) -> NoReturn:
    """Leave as by an error, which removes files that are half-written."""
    sys.exit(128 + signal.SIGTERM)


DEMO_EXAMPLES = """
[bold]Examples[/bold]

  emdn demo    (writes emdn_demo/demo.png and others)

  emdn demo --micrograph gold --scale 10 -o gold/
"""


@app.command(epilog=DEMO_EXAMPLES)
def demo(
    micrograph: Annotated[
        str, typer.Option(help="A micrograph that ships: axons, gold or nanoparticles.")
    ] = "axons",
    scale: Annotated[
        float, typer.Option(help="Counts expected at its brightest pixel.")
    ] = 25.0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder, made if missing.")
    ] = Path("emdn_demo"),
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
) -> None:
    """Show on a real micrograph what denoising gains; needs no file."""
    from emdn.trust.demo import FILES, demonstrate, write

    started = perf_counter()
    try:
        for name in FILES:
            _refuse_taken(output / name, overwrite=overwrite)
        noise_remover = Denoiser(clip=False, progress=False)
        shown = demonstrate(micrograph, scale, noise_remover)
        written = write(shown, output)
    except (ValueError, OSError) as error:
        _fail(error)
    typer.echo("\n".join(shown.sentences()))
    for level, text in shown.assessment.verdict:
        _say(text, {"good": "green", "care": "yellow", "bad": "red"}[level])
    typer.echo(f"It took {perf_counter() - started:.0f} s, and wrote:")
    typer.echo("\n".join(str(path) for path in written))


REPORT_EXAMPLES = """
[bold]Examples[/bold]

  emdn report noisy.mrc    (writes noisy_report.html and noisy_report.json)

  emdn report noisy.mrc --uncertainty --consistency    (and the maps, as TIFF)

  emdn report noisy.mrc --denoised elsewhere.tif
"""

NOISY = typer.Argument(help="A noisy micrograph; of a stack, its first image.")
OF_SEVERAL = typer.Option(help="Name or number of the image, in files of several.")
WHICH_WEIGHTS = typer.Option(help="auto, compact, or a gain-aware file of your own.")


@app.command(epilog=REPORT_EXAMPLES)
def report(
    noisy: Annotated[Path, NOISY],
    denoised: Annotated[
        Path | None,
        typer.Option(help="A result to judge in place of emdn's; of the same pixels."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="An .html file; by default NAME_report.html."),
    ] = None,
    image: Annotated[str | None, OF_SEVERAL] = None,
    weights: Annotated[str, WHICH_WEIGHTS] = "auto",
    gain: Annotated[
        float | None, typer.Option(help="What an electron adds to a pixel.")
    ] = None,
    offset: Annotated[
        float, typer.Option(help="Grey level of no electrons, beside a gain.")
    ] = 0.0,
    readout: Annotated[
        float, typer.Option(help="Noise of the electronics, beside a gain, in electrons.")
    ] = 0.0,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Write the map of the error's deviation.")
    ] = False,
    consistency: Annotated[
        bool, typer.Option("--consistency", help="Write the map of missing electrons.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
) -> None:
    """Say how far a denoised image may be believed, on one page and in JSON."""
    from emdn.trust.report import as_page, assess

    stem = stem_of(noisy)
    page = output or noisy.with_name(f"{stem}_report.html")
    maps = {
        name: page.with_name(f"{stem}_{name}.tif")
        for name, wanted in (("uncertainty", uncertainty), ("consistency", consistency))
        if wanted
    }
    try:
        if page.suffix != ".html":
            raise MicrographError(f"{page}: must end in .html")
        if uncertainty and denoised:
            raise ValueError("the uncertainty of a result from elsewhere is not known")
        for target in (page, page.with_suffix(".json"), *maps.values()):
            _refuse_taken(target, overwrite=overwrite)
        pixels, metadata = _first_image(noisy, image)
        other = None if denoised is None else _first_image(denoised, None)[0]
        known = None if gain is None else Detector(gain, offset, readout)
        found = assess(pixels, _gain_aware(weights), detector=known, denoised=other)
        about = {"file": noisy.name, "sha256": sha256(noisy), "emdn": __version__}
        numbers = about | found.numbers
        footer = f"emdn {__version__}, input {about['sha256'][:16]}"
        for path, text in (
            (page, as_page(found, noisy.name, footer)),
            (page.with_suffix(".json"), json.dumps(numbers, indent=2) + "\n"),
        ):
            with written_whole(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        made = {"consistency": found.consistency.excess}
        if found.uncertainty is not None:
            made["uncertainty"] = found.uncertainty.deviation
        for name, path in maps.items():
            write_micrograph(path, made[name].astype(np.float32), metadata, overwrite=True)
    except (ValueError, OSError, ImportError) as error:
        _fail(error)
    for level, text in found.verdict:
        _say(text, {"good": "green", "care": "yellow", "bad": "red"}[level])
    typer.echo("\n".join(str(path) for path in (page, *maps.values())))


@app.command("plan")
def plan_dose(
    good: Annotated[
        Path, typer.Argument(help="An image of the specimen with little noise.")
    ],
    doses: Annotated[
        str, typer.Option(help="Electrons a pixel, in the mean, with commas.")
    ] = "3,10,30,100,300",
    period: Annotated[
        float | None,
        typer.Option(help="Finest period that must be right, in the image's unit."),
    ] = None,
    image: Annotated[str | None, OF_SEVERAL] = None,
    weights: Annotated[str, WHICH_WEIGHTS] = "auto",
) -> None:
    """Say how little dose a specimen needs, by exposing a good image anew."""
    from emdn.trust.dose import expose, least

    try:
        pixels, metadata = _first_image(good, image)
        wanted = sorted(float(each) for each in _names(doses))
        rng = np.random.default_rng(0)
        exposures = expose(pixels, _gain_aware(weights), rng, wanted)
    except (ValueError, OSError, ImportError) as error:
        _fail(error)
    size, unit = metadata.pixel_size or 1.0, metadata.unit or "pixels"
    area = (size * LENGTHS[unit]) ** 2 if unit in LENGTHS else None
    heads = ["electrons a pixel", *(["per square angstrom"] if area else [])]
    heads += ["noise", "error", "SSIM", f"resolution, {unit}"]
    typer.echo("".join(f"{head:>22}" for head in heads))
    for each in exposures:
        cells = [f"{each.dose:g}", *([f"{each.dose / area / 100:.3g}"] if area else [])]
        cells += [f"{each.noise:.3f}", f"{each.error:.3f}", f"{each.ssim:.3f}"]
        cells += [f"{each.resolution * size:.3g}"]
        typer.echo("".join(f"{cell:>22}" for cell in cells))
    if period is not None:
        enough = least(exposures, period / size)
        text = f"{enough:g} electrons a pixel" if enough else "none of these doses"
        typer.echo(f"A period of {period:g} {unit} survives at: {text}")


def _first_image(path: Path, image: str | None) -> tuple[Any, Metadata]:
    """Read one image; of a stack the first."""
    pixels, metadata = read_micrograph(path, image=image)
    if pixels.ndim == 3:
        _say(f"{path}: holds {len(pixels)} images; this is of the first", "yellow")
    return pixels[0] if pixels.ndim == 3 else pixels, metadata


def _gain_aware(weights: str) -> Callable[[Any, Detector], Any]:
    """Return a function that denoises an image of a detector."""
    noise_remover = Denoiser(weights, clip=False, progress=False)
    if not _load_quietly(noise_remover).gain_aware:
        raise ValueError(f"weights {weights} are blind; this needs gain-aware ones")
    return lambda image, detector: noise_remover.denoise(image, detector=detector)


TRAIN_EXAMPLES = """
[bold]Examples[/bold]

  emdn train --config low-dose.yml -o runs/low --dry-run

  emdn train --config low-dose.yml -o runs/low    (again, after an interruption: goes on)

  emdn denoise noisy.tif -o denoised.tif --weights runs/low/denoiser.keras
"""


@app.command(epilog=TRAIN_EXAMPLES)
def train(
    config: Annotated[Path, typer.Option(help="A recipe, YAML.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run, made if missing.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of micrographs, in place of the recipe's.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and its cost.")
    ] = False,
) -> None:
    """Train a network by a recipe, or go on with a training in its folder."""
    with _extra("train"):
        load_tensorflow()
        from emdn.training.dry_run import plan
        from emdn.training.recipe import read_recipe
        from emdn.training.run import TrainingError, find_records
        from emdn.training.run import train as train_in_folder

    try:
        recipe = read_recipe(config, data)
        if dry_run:
            typer.echo("\n".join(plan(recipe, find_records(recipe, output))))
            return
        weights = train_in_folder(recipe, output, progress=True)
    except (ValueError, OSError, TrainingError) as error:
        _fail(error)
    if weights is None:
        typer.echo(f"{output}: interrupted and saved; the same command goes on")
    else:
        typer.echo(f"{output}: done, {weights}")


BENCHMARK_EXAMPLES = """
[bold]Examples[/bold]

  emdn benchmark micrographs/ -o scores.csv --instances 200 --workers 4

  emdn benchmark micrographs/ -o scores.csv    (again, after an interruption: goes on)

  emdn benchmark micrographs/ -o mine.csv --methods emdn,gaussian --method my.code:denoise
"""


@app.command(epilog=BENCHMARK_EXAMPLES)
def benchmark(
    folder: Annotated[
        Path, typer.Argument(help="Micrographs, with a manifest.csv: file,source,split.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A CSV file of scores.")],
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Which of the micrographs.")
    ] = "test",
    instances: Annotated[
        int | None,
        typer.Option(help="Instances of noise, for each dose range; the paper's 20,000."),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(help="Largest side of a crop, in pixels; the paper's 512."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of crops, scales and noise.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, in place of them.")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Names of methods, with commas; by default, all but peers.")
    ] = "",
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Add a function of your own, package.module:function; may repeat."
        ),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Add rivals from packages of their own.")
    ] = False,
    by: Annotated[
        Literal["source", "modality", "dose"] | None,
        typer.Option(help="Print scores for each of these apart."),
    ] = None,
    table: Annotated[
        Literal["markdown", "latex"], typer.Option(help="How to print them.")
    ] = "markdown",
) -> None:
    """Score the shipped weights and classical filters on noise made by the paper's rule.

    Functions of your own are called with a noisy image in [0, 1] and, if they have a second
    parameter that must be given, with the gain: what one electron adds to a pixel.
    """
    if choose_backend() == "tensorflow":
        load_tensorflow()
    with _extra("baselines"):
        from emdn.benchmark.instances import BenchmarkConfig
        from emdn.benchmark.methods import choose
        from emdn.benchmark.rows import read_rows
        from emdn.benchmark.run import run_benchmark
        from emdn.benchmark.tables import latex_table, markdown_table, summarise

    try:
        settings = {"instances": instances, "crop": crop, "seed": seed}
        given: Any = {name: value for name, value in settings.items() if value is not None}
        config = BenchmarkConfig(folder, split, **given)
        sys.path.append(str(Path.cwd()))  # where functions of one's own may be
        chosen = choose(_names(methods), with_peers=peers, own=method or ())
        run_benchmark(
            config,
            output,
            chosen,
            workers=workers,
            scheduler=scheduler,
            progress=True,
        )
        shown = summarise(read_rows(output), by=by)
    except (ValueError, OSError, ImportError) as error:
        _fail(error)
    typer.echo(markdown_table(shown) if table == "markdown" else latex_table(shown))


@app.command()
def curve(
    runs: Annotated[list[Path], typer.Argument(help="Folders of trainings.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A PNG, SVG or PDF file.")],
    boxcar: Annotated[int, typer.Option(help="Rows of the log to average over.")] = 5,
) -> None:
    """Draw the learning curves of trainings."""
    from emdn.training.log import read_log

    with _extra("plot"):
        from emdn.plots import plot_learning_curves

    try:
        logs = {str(run): read_log(run / "log.csv") for run in runs}
        plot_learning_curves(logs, boxcar=boxcar).savefig(output, dpi=150)
    except (ValueError, OSError) as error:
        _fail(error)


FIGURES_EXAMPLES = """
[bold]Examples[/bold]

  emdn figures scores.csv --data micrographs/ -o figures/

  emdn figures scores.csv --data micrographs/ -o figures/ --methods emdn,gaussian
"""


@app.command(epilog=FIGURES_EXAMPLES)
def figures(
    results: Annotated[Path, typer.Argument(help="The CSV file of a benchmark.")],
    data: Annotated[Path, typer.Option(help="Folder of the micrographs scored in it.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder, made if missing.")
    ],
    methods: Annotated[
        str,
        typer.Option(help="Names of methods, with commas, the one to look into first."),
    ] = "",
    instances: Annotated[int, typer.Option(help="Averaged for each map of errors.")] = 200,
    crop: Annotated[int, typer.Option(help="Side of those maps, in pixels.")] = 256,
    formats: Annotated[str, typer.Option(help="Of png, pdf and svg.")] = "png,pdf",
    only: Annotated[
        str, typer.Option(help="Pattern of the figures' names, such as fig4*.")
    ] = "*",
) -> None:
    """Draw the paper's figures of section 4, and more, from a benchmark."""
    if choose_backend() == "tensorflow":
        load_tensorflow()
    with _extra("plot"):
        from emdn.benchmark.figures import FigureConfig, write_figures

    try:
        sys.path.append(str(Path.cwd()))  # where functions of one's own may be
        config = FigureConfig(
            _names(methods), instances, crop, tuple(formats.split(",")), only
        )
        written = write_figures(results, data, output, config, progress=True)
    except (ValueError, OSError, ImportError) as error:
        _fail(error)
    typer.echo("\n".join(str(path) for path in written))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


EXPORT_EXAMPLES = """
[bold]Examples[/bold]

  emdn export auto -o auto.onnx

  emdn export runs/low/denoiser.keras --bioimageio denoiser.zip
"""


@app.command(epilog=EXPORT_EXAMPLES)
def export(
    network: Annotated[
        str, typer.Argument(help="auto, compact, low, ordinary, or a .keras or .onnx file.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="An .onnx file.")
    ] = None,
    bioimageio: Annotated[
        Path | None, typer.Option(help="A .zip file, a package of bioimage.io.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
) -> None:
    """Write a network for other programs."""
    wanted = [(output, ".onnx"), (bioimageio, ".zip")]
    targets = [(path, suffix) for path, suffix in wanted if path is not None]
    try:
        if not targets:
            raise ValueError("nothing to write; name a file by -o or --bioimageio")
        for path, suffix in targets:
            if path.suffix != suffix:
                raise ValueError(f"{path}: must end in {suffix}")
            _refuse_taken(path, overwrite=overwrite)
        with tempfile.TemporaryDirectory() as folder:
            graph = _as_onnx(network, Path(folder))
            if output is not None:
                with written_whole(output) as temporary:
                    shutil.copyfile(graph, temporary)
            if bioimageio is not None:
                from emdn.bridges.bioimageio import write_package

                with _extra("bioimageio"):
                    write_package(graph, bioimageio)
    except (ValueError, OSError, ImportError) as error:
        _fail(error)
    typer.echo("\n".join(str(path) for path, _ in targets))


def _as_onnx(network: str, folder: Path) -> Path:
    """Return the ONNX file of a network; of a Keras file it is made in a folder."""
    if network in NAMES or network.endswith(".onnx"):
        return load(network, backend="onnx").path  # loaded, so that it is whole
    with _extra("train"):
        load_tensorflow()
        from emdn.networks.onnx_graph import write_onnx
    path = folder / f"{Path(network).stem}.onnx"
    write_onnx(read_model(network), path)
    return path


@app.command()
def info(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Micrographs whose images to list.")
    ] = None,
) -> None:
    """List the images of files, or show versions, devices and weights."""
    if files:
        listed = [_list_images(file) for file in files]
        raise typer.Exit(0 if all(listed) else 1)
    backend = choose_backend()  # before TensorFlow is loaded to ask for its version
    if trains := is_installed("tensorflow") and is_installed("keras"):
        load_tensorflow()
    for module in ("emdn", "onnxruntime", "ncnn", "onnx", "tensorflow", "keras", "numpy"):
        # Of the module, since tensorflow-cpu brings the module tensorflow too.
        there = is_installed(module)
        version = import_module(module).__version__ if there else "not installed"
        typer.echo(f"{module:<12} {version}")
    typer.echo(f"{'python':<12} {sys.version.split()[0]}")
    typer.echo(f"{'backend':<12} {backend}")
    if trains:
        _list_devices()
    for path in sorted(file for name in NAMES for file in WEIGHTS.glob(f"{name}.*")):
        if path.suffix in (".keras", ".onnx"):
            size = f"{path.stat().st_size / 1e6:.1f} MB"
            typer.echo(f"{'weights':<12} {path.name} ({size}) {path}")


def _list_devices() -> None:
    """Print what TensorFlow may compute on."""
    config = load_tensorflow().config
    for device in config.list_physical_devices():
        details = config.experimental.get_device_details(device)
        name = details.get("device_name", "")
        typer.echo(f"{'device':<12} {device.name.removeprefix('/physical_device:')} {name}")


def _list_images(file: Path) -> bool:
    """Print a line for each image of a file; return whether the file could be read."""
    try:
        sources = list_images(file)
    except MicrographError as error:
        _say(str(error), "red")
        return False
    typer.echo(file)
    for number, source in enumerate(sources):
        shape = " x ".join(map(str, source.shape))
        known = asdict(source.metadata)
        other = known.pop("other")
        facts = "  ".join(f"{k} {v}" for k, v in known.items() if v is not None)
        typer.echo(f"{number:>4}  {source.name}  {shape}  {source.dtype}  {facts}".rstrip())
        for key, value in other.items():
            typer.echo(f"      {key}: {value}")
    return True


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Say how to install what an optional command imports."""
    try:
        yield
    except ModuleNotFoundError as error:
        remedy = f'pip install "emdn[{name}]" (from a clone: ".[{name}]") brings it'
        _fail(ModuleNotFoundError(f"{error.name} is not installed; {remedy}"))


def _say(text: str, colour: str) -> None:
    typer.secho(text, fg=colour, err=True)


def _fail(error: Exception) -> NoReturn:
    text = str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}; check the path"
    _say(text, "red")
    raise typer.Exit(1)
