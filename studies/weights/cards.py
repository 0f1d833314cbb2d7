"""Write the model cards of the shipped weights from scores.

    python studies/weights/cards.py

Reads what `studies/paper/publish.py` wrote of the test split and of the validation split,
and the facts in `emdn/weights/cards.yml`. The scores must be of the weights that ship:
their hashes are compared.
"""

import json
import math
from collections.abc import Collection
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

from emdn.benchmark.instances import DOSE_RANGES
from emdn.benchmark.methods import BLIND, COMPACT, NETWORK, TRUE_GAIN, label_of
from emdn.benchmark.rows import RESULTS, read_about, read_rows
from emdn.benchmark.tables import summarise
from emdn.networks.inference import count_macs
from emdn.weights import WEIGHTS, read_model, shipped_hashes

STUDIES = Path(__file__).parents[1] / "results"
SHOWN = (NETWORK, TRUE_GAIN, COMPACT, BLIND, "unfiltered", "gaussian", "wiener")
SHOWN += ("chambolle-tv", "gaussian-aware", "nl-means-vst", "wavelet-vst", "bm3d-vst")
SHOWN += ("ffdnet-vst", "r-em")
ATOMS, BLOTCH = "contrast of atoms, % of the truth", "largest blotch, counts"
DETAIL = "MSE of membranes, % of the noisy image's"
SPLITS = {"test": "test", "val": "validation"}
FACTS = yaml.safe_load((WEIGHTS / "cards.yml").read_text())
"""What each card tells that no file of scores does."""

FAILURES = """\
Of specimens at {scale:.0f} counts at the brightest pixel, the mean of {exposures} exposures
(`studies/weights/failures.py`; in brackets what is left by a cycle-spun wavelet filter
that knows the noise):

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

![Noisy, denoised and true specimens](../../book/_static/failures_{dose}.png)

Texture as fine and as weak as the noise is smoothed away. Where noise is not shot noise,
{other_noise}
A second exposure that is denoised by itself tells what is in the specimen."""
CARD = """\
# Model card: {file}

- **Network**: `{network}`, {parameters:,} trainable parameters, {macs:.2f} GMAC
  for 512 x 512 pixels. {gain}
- **Meant for**: shot noise at {doses}.
  It knows no other noise: no scan distortion, and nothing that compression left. To a
  gain-aware network `Denoiser` passes readout noise as a lower black level, and noise that
  neighbours share once it is white.
- **Recipe**: {recipe}
- **Data**: {data}
- **SHA-256**: `{digest}`

## Scores

The paper's protocol, everything clipped to [0, 1]. *emdn* is `auto.keras` and measures the
noise itself; *emdn, true gain* is the same network, which is given the gain, and *emdn,
compact* is `compact.keras`, given it as well; *emdn, blind* is `low.keras` or
`ordinary.keras`. Filters called *gain-aware* and *stabilised* are given the gain too.
The validation split chose the network and tuned those filters. In brackets, a 95 %
interval of the mean, in which whole sources are drawn. A mean counts all instances alike,
one over sources all sources.

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


def history(text: str) -> str:
    """Return a text with the scores of earlier runs on the test split."""
    rows, _ = results("test")
    ordinary = rows[rows["dose_range"] == "ordinary"]
    errors = ordinary.pivot(index="instance", columns="method", values="mse")
    deceived = errors[NETWORK] > 1.05 * errors[TRUE_GAIN]
    return text.format(
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
    """Return what `studies/weights/failures.py` measured of a network and of a filter."""
    report = json.loads((RESULTS / "failures.json").read_text())
    dose = name if name in report else "low"
    own = report[dose][{"auto": NETWORK, "compact": COMPACT}.get(name, BLIND)]
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
        other_noise=FACTS[name]["other_noise"],
    )


def write_card(name: str) -> None:
    """Write the card of one weight file beside it."""
    model, facts = read_model(name), FACTS[name]
    doses = (name,) if name in DOSE_RANGES else DOSE_RANGES
    card = CARD.format(
        file=f"{name}.keras",
        network=facts["network"],
        parameters=sum(math.prod(each.shape) for each in model.trainable_variables),
        macs=count_macs(model) / 1e9,
        gain=facts["gain"],
        doses=facts["doses"],
        recipe=facts["recipe"],
        data=facts["data"].format(simulations=facts["simulations"]),
        digest=shipped_hashes()[f"{name}.keras"],
        scores="\n\n".join(score_section(split, doses) for split in SPLITS),
        history=history(facts["history"]) if "history" in facts else "",
        failures=failure_section(name),
    )
    (WEIGHTS / f"{name}.md").write_text(card)


def main() -> None:
    """Write the cards."""
    for name in FACTS:
        write_card(name)


if __name__ == "__main__":
    main()
