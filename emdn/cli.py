"""The command line: `emdn denoise`, `train`, `benchmark`, `figures`, `curve` and `info`."""

import inspect
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from emdn.batch import Batch, Format, PixelType, denoise_file, plan
from emdn.console import load_tensorflow, progress
from emdn.denoiser import Denoiser, Quality
from emdn.io import WRITABLE, MicrographError, list_images
from emdn.weights import WEIGHTS, load

EXAMPLES = """
[bold]Examples[/bold]

  emdn denoise noisy.dm4    (writes noisy_denoised.tif)

  emdn denoise session/*.mrc more/ -o denoised/ --format mrc

  emdn denoise velox.emd --image HAADF -o denoised.tif

  emdn denoise counts.mrc --adapt --quality best --save-weights specimen.keras
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
            help="auto, which is gain-aware and fits all doses; low or ordinary, which are "
            "blind; or a Keras file of your own."
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
            help="best averages an image's eight symmetries: about 1 % less error in eight "
            "times the time."
        ),
    ] = DEFAULTS["quality"],
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
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
) -> None:
    """Denoise micrographs: TIFF, MRC, DM3, DM4, SER, EMD, HDF5, PNG, NPY and more.

    Of several inputs, those whose results are there already are skipped: a batch that was
    interrupted goes on.
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
        load_tensorflow()  # only now that nothing is wrong with the names of files
        noise_remover = Denoiser(
            weights,
            tile_size=tile_size,
            overlap=overlap,
            batch_size=batch_size,
            clip=clip,
            quality=quality,
            progress=False,  # of tiles; a bar of files is shown
        )
        load(weights)
    except (ValueError, OSError) as error:
        _fail(error)
    failures = skipped = 0
    with progress(len(jobs), description="Denoising", show=None) as advance:
        for job in jobs:

            def show(image: int, images: int, name: str = job.source.name) -> None:
                advance(0, f"{name}, image {image} of {images}" if images > 1 else name)

            advance(0, job.source.name)
            try:
                for done in denoise_file(job, noise_remover, batch, advance=show):
                    for note in done.notes:
                        _say(f"{job.source}: {note}", "yellow")
                    skipped += done.skipped
                    if not done.skipped:
                        typer.echo(f"{job.source} -> {done.target}")
                    if done.measured:
                        typer.echo(f"  {done.measured}")
                    if done.adapted:
                        typer.echo(f"  {done.adapted}")
            except (ValueError, OSError) as error:
                text = str(error)
                named = isinstance(error, MicrographError)
                _say(text if named else f"{job.source}: {text}", "red")
                failures += 1
            advance(1)
    if skipped:
        text = f"{skipped} of {len(jobs)} results are there already"
        _say(f"{text}; --overwrite replaces them.", "yellow")
    if failures:
        _say(f"{failures} of {len(jobs)} files failed.", "red")
        raise typer.Exit(1)


def _refuse_taken(target: Path, *, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        remedy = "use --overwrite to replace it"
        raise MicrographError(f"{target}: exists already; {remedy}")


def _leave(*_: object) -> NoReturn:
    """Leave as by an error, which removes files that are half-written."""
    sys.exit(128 + signal.SIGTERM)


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
    tf = load_tensorflow()
    for package in ("emdn", "tensorflow", "keras", "numpy"):
        # Of the module, since tensorflow-cpu brings the module tensorflow too.
        typer.echo(f"{package:<12} {import_module(package).__version__}")
    typer.echo(f"{'python':<12} {sys.version.split()[0]}")
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        name = details.get("device_name", "")
        typer.echo(f"{'device':<12} {device.name.removeprefix('/physical_device:')} {name}")
    for path in sorted(WEIGHTS.glob("*.keras")):
        typer.echo(
            f"{'weights':<12} {path.stem} ({path.stat().st_size / 1e6:.1f} MB) {path}"
        )


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
        known = {
            key: value
            for key, value in asdict(source.metadata).items()
            if value is not None
        }
        facts = "  ".join(f"{key} {value}" for key, value in known.items())
        typer.echo(f"{number:>4}  {source.name}  {shape}  {source.dtype}  {facts}".rstrip())
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
