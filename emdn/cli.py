"""The command line: `emdn denoise`, `train`, `benchmark`, `figures`, `curve` and `info`."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from emdn.console import load_tensorflow
from emdn.denoiser import Denoiser
from emdn.io import READABLE, WRITABLE, MicrographError, read_micrograph, write_micrograph
from emdn.weights import WEIGHTS

EXAMPLES = """
[bold]Examples[/bold]

  emdn denoise noisy.dm4 -o denoised.tif

  emdn denoise session/*.mrc more/ -o denoised/ --dose low
"""

app = typer.Typer(
    help="Denoise electron micrographs.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Dose(StrEnum):
    """Weights to use; members mirror `emdn.denoiser.DOSES`."""

    AUTO = "auto"
    LOW = "low"
    ORDINARY = "ordinary"


class Split(StrEnum):
    """Part of a folder of micrographs; members mirror `emdn.data.corpus.SPLITS`."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@app.command(epilog=EXAMPLES)
def denoise(
    inputs: Annotated[
        list[Path], typer.Argument(help="Micrographs, stacks, or folders of them.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help=f"A file ({', '.join(WRITABLE)}) for a single input; otherwise a folder, "
            "made if missing, for TIFFs named after the inputs.",
        ),
    ],
    dose: Annotated[
        Dose,
        typer.Option(
            help="Network: auto is told the noise and fits all doses; the others are blind."
        ),
    ] = Dose.AUTO,
    gain: Annotated[
        float | None,
        typer.Option(help="What an electron adds to a pixel; measured if not given."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A Keras file of your own weights.")
    ] = None,
    tile_size: Annotated[
        int, typer.Option(help="Largest side of a tile, in pixels.")
    ] = 576,
    overlap: Annotated[int, typer.Option(help="Margin dropped around a tile.")] = 25,
    padding: Annotated[int, typer.Option(help="Reflection added around an image.")] = 0,
    batch_size: Annotated[
        int, typer.Option(help="Tiles computed at once; takes memory.")
    ] = 2,
    clip: Annotated[bool, typer.Option(help="Keep within the input's range.")] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
) -> None:
    """Denoise micrographs: TIFF, PNG, MRC, DM3, DM4, SER, EMD, HDF5 or NPY."""
    try:
        jobs = plan(inputs, output, overwrite=overwrite)
        load_tensorflow()  # only now that nothing is wrong with the names of files
        noise_remover = Denoiser(
            dose.value,
            model=model,
            tile_size=tile_size,
            overlap=overlap,
            padding=padding,
            batch_size=batch_size,
            clip=clip,
        )
    except (ValueError, OSError) as error:
        _fail(error)
    failures = 0
    for source, target in jobs:
        try:
            image, metadata = read_micrograph(source)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                restored = noise_remover.denoise(image, gain=gain)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_micrograph(target, restored, metadata, overwrite=overwrite)
        except (ValueError, OSError) as error:
            text = str(error)
            _say(text if isinstance(error, MicrographError) else f"{source}: {text}", "red")
            failures += 1
            continue
        for warning in caught:
            _say(f"{source}: {warning.message}", "yellow")
        typer.echo(f"{source} -> {target}")
    if failures:
        _say(f"{failures} of {len(jobs)} files failed.", "red")
        raise typer.Exit(1)


TRAIN_EXAMPLES = """
[bold]Examples[/bold]

  emdn train --config low-dose.yml -o runs/low --dry-run

  emdn train --config low-dose.yml -o runs/low    (again, after an interruption: goes on)

  emdn denoise noisy.tif -o denoised.tif --model runs/low/denoiser.keras
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
    from emdn.training.run import TrainingError, settle_records
    from emdn.training.run import train as train_in_folder

    try:
        recipe = read_recipe(config, data)
        if dry_run:
            typer.echo("\n".join(plan(recipe, settle_records(recipe, output))))
            return
        weights = train_in_folder(recipe, output, progress=True)
    except (ValueError, OSError, TrainingError) as error:
        _fail(error)
    if weights is None:
        typer.echo(f"{output}: interrupted and saved; the same command goes on")
    else:
        typer.echo(f"{output}: done, {weights}")


class Group(StrEnum):
    """What to group scores by; members mirror `emdn.benchmark.tables.By`."""

    SOURCE = "source"
    MODALITY = "modality"
    DOSE = "dose"


class Form(StrEnum):
    """How to print scores."""

    MARKDOWN = "markdown"
    LATEX = "latex"


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
    split: Annotated[Split, typer.Option(help="Which of the micrographs.")] = Split.TEST,
    instances: Annotated[
        int, typer.Option(help="Instances of noise, for each dose range.")
    ] = 20_000,
    crop: Annotated[int, typer.Option(help="Largest side of a crop, in pixels.")] = 512,
    seed: Annotated[int, typer.Option(help="Of crops, scales and noise.")] = 2018,
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
        Group | None, typer.Option(help="Print scores for each of these apart.")
    ] = None,
    table: Annotated[Form, typer.Option(help="How to print them.")] = Form.MARKDOWN,
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
        config = BenchmarkConfig(folder, split.value, instances, crop, seed=seed)
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
        shown = summarise(read_rows(output), by=by.value if by else None)
    except (ValueError, OSError, ImportError) as error:
        _fail(error)
    typer.echo(markdown_table(shown) if table is Form.MARKDOWN else latex_table(shown))


@app.command()
def curve(
    runs: Annotated[list[Path], typer.Argument(help="Folders of trainings.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A PNG, SVG or PDF file.")],
    boxcar: Annotated[int, typer.Option(help="Rows of the log to average over.")] = 5,
) -> None:
    """Draw the learning curves of trainings."""
    from emdn.training.log import read_log

    with _extra("book"):
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
    with _extra("book"):
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
def info() -> None:
    """Show versions, devices and weights."""
    tf = load_tensorflow()
    for package in ("emdn", "tensorflow", "keras", "numpy"):
        typer.echo(f"{package:<12} {version(package)}")
    typer.echo(f"{'python':<12} {sys.version.split()[0]}")
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        name = details.get("device_name", "")
        typer.echo(f"{'device':<12} {device.name.removeprefix('/physical_device:')} {name}")
    for path in sorted(WEIGHTS.glob("*.keras")):
        typer.echo(
            f"{'weights':<12} {path.stem} ({path.stat().st_size / 1e6:.1f} MB) {path}"
        )


def plan(inputs: list[Path], output: Path, *, overwrite: bool) -> list[tuple[Path, Path]]:
    """Pair each input file with the file to write, before any work is done.

    Parameters
    ----------
    inputs : list of Path
        Files, and folders whose readable files are taken, without their subfolders.
    output : Path
        A file if its suffix can be written and there is one input file; else a folder.
    overwrite : bool
        Whether files to write may exist.

    Raises
    ------
    MicrographError
        If nothing is found, or two inputs would be written to one file, or a file is
        there already.
    """
    files = [file for path in inputs for file in _files_of(path)]
    if output.suffix.lower() in WRITABLE and not output.is_dir():
        if len(files) > 1:
            raise MicrographError(
                f"{output}: one file cannot hold {len(files)} results; name a folder"
            )
        targets = [output]
    else:
        targets = [output / f"{file.stem}.tif" for file in files]
    for target, count in Counter(targets).items():
        if count > 1:
            raise MicrographError(
                f"{target}: {count} inputs would be written there; denoise them separately"
            )
    for file, target in zip(files, targets, strict=True):
        if target.exists() and (not overwrite or target.samefile(file)):
            remedy = "name another output" if overwrite else "use --overwrite to replace it"
            raise MicrographError(f"{target}: exists already; {remedy}")
    return list(zip(files, targets, strict=True))


def _files_of(path: Path) -> list[Path]:
    """Return a file as it is, and of a folder the files that can be read."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in READABLE)
    if not files:
        raise MicrographError(
            f"{path}: holds no micrograph; files end in {', '.join(READABLE)}"
        )
    return files


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
    _say(str(error), "red")
    raise typer.Exit(1)
