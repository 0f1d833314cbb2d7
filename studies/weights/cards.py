"""Write the model cards of the shipped weights, and the README's table, from scores.

    python studies/weights/cards.py

Reads what `publish_results.py` wrote of the test split and of the validation split. The
scores must be of the weights that ship: their hashes are compared.
"""

import json
import math
from collections.abc import Collection
from functools import cache
from pathlib import Path

import keras
import pandas as pd

from emdn.benchmark.methods import BLIND, NETWORK, TRUE_GAIN, label_of
from emdn.benchmark.rows import RESULTS, read_about, read_rows
from emdn.benchmark.tables import summarise
from emdn.networks.inference import count_macs
from emdn.weights import WEIGHTS, shipped_hashes

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "studies" / "results"
SHOWN = (NETWORK, TRUE_GAIN, BLIND, "unfiltered", "gaussian", "wiener", "chambolle-tv")
SHOWN += ("gaussian-aware", "nl-means-vst", "wavelet-vst", "bm3d-vst", "ffdnet-vst", "r-em")
HISTORY = """
The test split was scored three times by *emdn*. The mean of the first two parts of the
training had {first}.
At ordinary dose FFDNet was better, most of all on micrographs with a grain of their own,
which little in the training had taught it to keep. The third part does; it was chosen on
the validation split, but the test split had its share in the idea. It had
{second}.
On some of the ordinary instances its error was more than 5 % above that of the network
that is told the noise, since the gain was measured too high, again on micrographs with
grain. The training split shows the same, and on it the rule was mended for grain that is
not white; the weights stayed. {deceived:.1f} % are left: white grain cannot be told from
shot noise.
(`studies/results/test_first_run.json`, `test_second_run.json`)
"""
ATOMS, BLOTCH = "contrast of atoms, % of the truth", "largest blotch, counts"
DETAIL = "MSE of membranes, % of the noisy image's"
SPLITS = {"test": "test", "val": "validation"}
START, END = (
    "<!-- scores: written by studies/weights/cards.py -->",
    "<!-- end of scores -->",
)

LOW = "scales of 25 + Exp(75) counts at the brightest pixel, 25 to some 300"
ORDINARY = "scales of 200 to 2500 counts at the brightest pixel"
GRAPHS = {"auto": "UNET", "low": "SMALL", "ordinary": "SMALL"}
DOSES = {
    "auto": "scales of 25 to 2500 counts at the brightest pixel",
    "low": LOW,
    "ordinary": ORDINARY,
}
RECIPES = {
    "auto": """\
`recipes/any-dose.yml`: 30,300 steps of 8 crops of 128 x 128 pixels, bfloat16, 97
  minutes on two shared cores; `recipes/any-dose-2.yml`: 15,300 steps of 6 crops of 192 x
  192 pixels, 53 minutes, with simulations; from the mean of the weights of both,
  `recipes/any-dose-3.yml`: 6800 steps of 8 crops of 128 x 128 pixels, 25 minutes, with
  grain in the truths. Huberised MSE, Adam, cosines of learning rates, averaged weights.""",
    "low": """\
`recipes/blind-low.yml`: 9200 steps of 4 crops of 192 x 192 pixels from random weights,
  67 minutes on one core. Huberised MSE, Adam, a cosine of learning rates, averaged
  weights, batch normalisations frozen from step 500 on.""",
    "ordinary": """\
`recipes/blind-ordinary.yml`: 6200 steps of 4 crops of 192 x 192 pixels from the
  low-dose weights, 43 minutes on one core. Huberised MSE, Adam, a cosine of learning
  rates, averaged weights, batch normalisations frozen.""",
}
DATA = """\
47 micrographs, half of them one series of coatings in backscattered SEM, others
  SEM and TEM of axons and cortex, TEM of polymer networks and atomic STEM, from the open
  repositories nasa/pretrained-microscopy-models (MIT), axondeepseg/data_axondeepseg_sem
  (MIT), saalfeldlab/render (GPL-2.0), owuordickson/structural-gt (GPL-3.0) and
  sdfunni/SingleOrigin (GPL-3.0). No micrograph is part of this project. Eighteen
  photographs that scikit-image and scikit-learn ship
  (`studies/corpus/gather.py`); {simulations} simulations of STEM and HRTEM,
  most of them by multislice (`studies/corpus/simulate.py`); for 35 % of crops,
  random scenes of `emdn.specimens.scenes`."""
SIMULATIONS = {"auto": "from the second part on, 100", "low": "100", "ordinary": "100"}
TELLS = {
    "auto": "It is told the noise, which `Denoiser` measures unless it is given the gain.",
    "low": "It is told nothing.",
    "ordinary": "It is told nothing.",
}

FAILURES = """\
Of specimens at {scale:.0f} counts at the brightest pixel, the mean of {exposures} exposures
(`studies/weights/failures.py`; in brackets what is left by a cycle-spun wavelet filter
that is told the noise):

- **Single atoms lose contrast**: of atoms of {heights} above an even film, {atoms} of the
  contrast is left.
- **Columns of a lattice of 6 pixels lose contrast**: {columns} is left. Of missing columns
  {vacancies} of a column's brightness is seen; {filled} of {of} were brighter than half a
  column.
- **Empty fields do not become empty**: what stays has a deviation of {nothing} of the
  noise's, and reaches {blotch} counts. After a network it may look like a specimen.
- **Fine detail suffers where noise is weak**: for stained tissue
  (`emdn.specimens.micrographs.membranes`) the MSE is {detail} of the noisy
  image's at {detail_scales}.

![Noisy, denoised and true specimens](../../studies/results/failures_{dose}.png)

Texture as fine and as weak as the noise is smoothed away. Of noise that is not shot noise,
{deceived}
A second exposure that is denoised by itself tells what is in the specimen."""
DECEIVED = {
    "auto": "or of a gain told or measured wrong, grain is left, or texture taken off.",
    "low": "grain is left, or texture taken off.",
    "ordinary": "grain is left, or texture taken off.",
}
CARD = """\
# Model card: {file}

- **Network**: `{network}` of `emdn.networks`, {parameters:,} trainable parameters,
  {macs:.2f} GMAC for 512 x 512 pixels. {tells}
- **Meant for**: shot noise at {dose}.
  It knows no other noise: no detector blur, no scan distortion, no noise that binning or
  compression correlated.
- **Recipe**: {recipe}
- **Data**: {data}
- **SHA-256**: `{digest}`

## Scores

The paper's protocol, everything clipped to [0, 1]. *emdn* is `auto.keras` and measures the
noise itself; *emdn, true gain* is the same network, which is given the gain; *emdn, blind*
is `low.keras` or `ordinary.keras`. Filters called *gain-aware* and *stabilised* are given
the gain as well. The validation split chose the network and tuned those filters. In
brackets, a 95 % interval of the mean, in which whole sources are drawn. A mean counts all
instances alike, one over sources all sources.

{scores}
{history}
## Known failures

{failures}
"""


def score_table(summary: pd.DataFrame) -> str:
    """Return a Markdown table of one dose range."""
    lines = [
        "| method | MSE x 1e-3 | MSE over sources | SSIM | SSIM over sources |",
        "|---|---|---|---|---|",
    ]
    for name, line in summary.droplevel(["dose_range", "group"]).iterrows():
        cells = [
            cell
            for score, factor in (("mse", 1e3), ("ssim", 1))
            for cell in (
                f"{factor * line[score]:.3f} ({factor * line[f'{score}_low']:.3f} to "
                f"{factor * line[f'{score}_high']:.3f})",
                f"{factor * line[f'{score}_sources']:.3f}",
            )
        ]
        lines.append(f"| {label_of(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def score_section(split: str, doses: Collection[str]) -> str:
    """Return how a split was scored, and a table for each of some dose ranges."""
    rows, about = results(split)
    table = summarise(rows[rows["method"].isin(SHOWN)])
    config, versions = about["config"], about["versions"]
    head = (
        f"### On {rows['file'].nunique()} {SPLITS[split]} micrographs of "
        f"{rows['source'].nunique()} sources\n\n"
        f"{config['instances']} instances of noise at each dose range, crops of at most "
        f"{config['crop']} pixels, seed {config['seed']};\n"
        f"{100 * table['largest_share'].max():.0f} % of the instances are of one source; "
        f"tensorflow {versions['tensorflow']}, numpy {versions['numpy']}."
    )
    tables = [
        f"{dose.capitalize()} dose:\n\n{score_table(summary)}"
        for dose, summary in table.groupby("dose_range", observed=True)
        if dose in doses
    ]
    return "\n\n".join([head, *tables])


@cache
def results(split: str) -> tuple[pd.DataFrame, dict]:
    """Return the rows of a split and how they were made, by the weights that ship."""
    path = RESULTS / f"{split}.csv.xz"
    about = read_about(path)
    if about["weights"] != shipped_hashes():
        raise SystemExit(f"{path} is of other weights than those that ship")
    return read_rows(path), about


def history() -> str:
    """Return what earlier runs on the test split found."""
    rows, _ = results("test")
    ordinary = rows[rows["dose_range"] == "ordinary"]
    errors = ordinary.pivot(index="instance", columns="method", values="mse")
    deceived = errors[NETWORK] > 1.05 * errors[TRUE_GAIN]
    return HISTORY.format(
        first=earlier("first"),
        second=earlier("second"),
        deceived=100 * deceived.mean(),
    )


def earlier(run: str) -> str:
    """Return the scores of an earlier run in words."""
    scores = json.loads((STUDIES / f"test_{run}_run.json").read_text())["scores"]
    return ", ".join(
        f"{1e3 * each[NETWORK]['mse']:.3f} and {each[NETWORK]['ssim']:.3f} at {dose} dose"
        for dose, each in scores.items()
    )


def failure_section(name: str) -> str:
    """Return what `failure_pictures.py` measured of a network and of a filter."""
    report = json.loads((STUDIES / "failures.json").read_text())
    dose = "low" if name == "auto" else name
    own = report[dose][NETWORK if name == "auto" else BLIND]
    rival = report[dose]["wavelet-vst"]

    def both(what: str, unit: str = " %") -> str:
        return f"{own[what]:.0f}{unit} ({rival[what]:.0f}{unit})"

    kept, detail = own[ATOMS].items(), own[DETAIL].items()
    return FAILURES.format(
        dose=dose,
        scale=report["scales"][dose],
        exposures=report["exposures"],
        heights=", ".join(height.removesuffix(" counts") for height, _ in kept) + " counts",
        atoms=", ".join(f"{share:.0f} % ({rival[ATOMS][h]:.0f} %)" for h, share in kept),
        columns=both("brightness of columns, % of the truth"),
        vacancies=both("brightness of vacancies, % of a column"),
        filled=own["vacancies brighter than half a column"],
        of=own["vacancies"],
        nothing=both("deviation of nothing, % of the noise"),
        blotch=f"{own[BLOTCH]:.1f} ({rival[BLOTCH]:.1f})",
        detail=", ".join(
            f"{share:.0f} % ({rival[DETAIL][at]:.0f} %)" for at, share in detail
        ),
        detail_scales=", ".join(at.removesuffix(" counts") for at, _ in detail) + " counts",
        deceived=DECEIVED[name],
    )


def write_card(name: str) -> None:
    """Write the card of one weight file beside it."""
    path = WEIGHTS / f"{name}.keras"
    model = keras.models.load_model(path, compile=False)
    doses = ("low", "ordinary") if name == "auto" else (name,)
    card = CARD.format(
        file=path.name,
        parameters=sum(math.prod(each.shape) for each in model.trainable_variables),
        macs=count_macs(model) / 1e9,
        dose=DOSES[name],
        recipe=RECIPES[name],
        network=GRAPHS[name],
        data=DATA.format(simulations=SIMULATIONS[name]),
        tells=TELLS[name],
        digest=shipped_hashes()[path.name],
        scores="\n\n".join(score_section(split, doses) for split in SPLITS),
        history=history() if name == "auto" else "",
        failures=failure_section(name),
    )
    (WEIGHTS / f"{name}.md").write_text(card)


def readme_table(summary: pd.DataFrame) -> str:
    """Return some methods at both doses, over instances and over sources."""
    doses = list(summary.index.unique("dose_range"))
    titles = [
        f"{dose} dose{of}: MSE x 1e-3, SSIM"
        for dose in doses
        for of in ("", ", over sources")
    ]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    scores = summary.droplevel("group")
    for name in (name for name in SHOWN if name in summary.index.unique("method")):
        cells = [
            f"{1e3 * scores.loc[(dose, name), 'mse' + end]:.3f}, "
            f"{scores.loc[(dose, name), 'ssim' + end]:.3f}"
            for dose in doses
            for end in ("", "_sources")
        ]
        lines.append(f"| {label_of(name)} | {' | '.join(cells)} |")
    share = 100 * summary["largest_share"].max()
    note = (
        f"{share:.0f} % of the instances are of one source; over sources, all count alike."
    )
    return "\n".join([*lines, "", note])


def main() -> None:
    """Write the cards and the table."""
    for name in DOSES:
        write_card(name)
    rows, _ = results("test")
    table = summarise(rows[rows["method"].isin(SHOWN)])
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(START)
    readme.write_text(
        f"{before}{START}\n\n{readme_table(table)}\n\n{END}{rest.split(END)[1]}"
    )


if __name__ == "__main__":
    main()
