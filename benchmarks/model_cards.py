r"""Write the model cards of the shipped weights, and the README's table, from scores.

    emdn benchmark CORPUS --split val --instances 42 -o benchmarks/results/val.csv \
        --methods "emdn, emdn, told, emdn, blind, unfiltered, Gaussian, Wiener, \
        Chambolle TV, wavelet, Gaussian, told, NL means, stabilised, wavelet, stabilised, \
        BM3D, stabilised, FFDNet, stabilised, r_em"
    python benchmarks/model_cards.py

The scores must be of the weights that ship: their hashes are compared.
"""

import hashlib
import json
import math
from pathlib import Path

import keras

from emdn.benchmark import NETWORKS, read_rows
from emdn.denoiser import WEIGHTS
from emdn.model import count_macs
from emdn.tables import Summary, summarise

ROOT = Path(__file__).parents[1]
SCORES = ROOT / "benchmarks" / "results" / "val.csv"
SHOWN = (*NETWORKS, "unfiltered", "Gaussian", "Wiener", "Chambolle TV", "Gaussian, told")
SHOWN += ("NL means, stabilised", "wavelet, stabilised")
SHOWN += ("BM3D, stabilised", "FFDNet, stabilised")
START, END = (
    "<!-- scores: written by benchmarks/model_cards.py -->",
    "<!-- end of scores -->",
)

LOW = "scales of 25 + Exp(75) counts at the brightest pixel, 25 to some 300"
ORDINARY = "scales of 200 to 2500 counts at the brightest pixel"
NETWORK = {"auto": "UNET", "low": "SMALL", "ordinary": "SMALL"}
DOSES = {
    "auto": "scales of 25 to 2500 counts at the brightest pixel",
    "low": LOW,
    "ordinary": ORDINARY,
}
FIRST = """\
9000 steps of 8 crops of 128 x 128 pixels from random weights, then 1000 steps of 2
  crops of 256 x 256; `benchmarks/train_first_weights.py`. Huberised MSE, Adam with beta1
  0.5, a cosine of learning rates, averaged weights, batch normalisations frozen from
  step 400 on."""
RECIPES = {
    "auto": """\
`recipes/any-dose.yml`: 30,300 steps of 8 crops of 128 x 128 pixels, bfloat16, 97
  minutes on two shared cores. Huberised MSE, Adam, a cosine of learning rates, averaged
  weights.""",
    "low": FIRST,
    "ordinary": FIRST.replace("9000", "4500").replace("random", "the low-dose"),
}
MICROGRAPHS = """\
47 micrographs, half of them one series of coatings in backscattered SEM, others
  SEM and TEM of axons and cortex, TEM of polymer networks and atomic STEM, from the open
  repositories nasa/pretrained-microscopy-models (MIT), axondeepseg/data_axondeepseg_sem
  (MIT), saalfeldlab/render (GPL-2.0), owuordickson/structural-gt (GPL-3.0) and
  sdfunni/SingleOrigin (GPL-3.0). No micrograph is part of this project."""
FORMULAS = " For 35 % of crops, formulas\n  of `emdn.synthetic`."
DATA = {
    "auto": MICROGRAPHS
    + """ Eighteen photographs
  that scikit-image and scikit-learn ship (`benchmarks/gather_training_data.py`); for 35 %
  of crops, random scenes of `emdn.scenes`.""",
    "low": MICROGRAPHS + FORMULAS,
    "ordinary": MICROGRAPHS + FORMULAS,
}
TELLS = {
    "auto": "It is told the noise, which `Denoiser` measures unless it is given the gain.",
    "low": "It is told nothing.",
    "ordinary": "It is told nothing.",
}

CARD = """\
# Model card: {file}

- **Network**: `emdn.model.{network}`, {parameters:,} trainable parameters, {macs:.2f} GMAC
  for 512 x 512 pixels. {tells}
- **Meant for**: shot noise at {dose}.
  It knows no other noise: no detector blur, no scan distortion, no noise that binning or
  compression correlated.
- **Recipe**: {recipe}
- **Data**: {data}
- **SHA-256**: `{digest}`

## Scores on validation micrographs

{images} micrographs of sources that are not in training (SEM, TEM of cortex, one STEM),
{instances} instances of noise at each dose range, the paper's protocol, everything
clipped to [0, 1]. *emdn* is `auto.keras` and measures the noise itself; *emdn, told* is
the same, told it; *emdn, blind* is `low.keras` or `ordinary.keras`. Filters called *told*
and *stabilised* know the true noise and were tuned on these micrographs. In brackets, a
95 % interval of the mean over sources, of which there are only {sources}. Seed {seed};
tensorflow {tensorflow}, numpy {numpy}.

{tables}

## Known failures

- From pure noise it makes faint blotches that look like a specimen: see "When not to
  believe it" in the book's quickstart.
- Texture as fine and as weak as the noise is smoothed away, and single atoms with it.
- Of noise that is not shot noise, or of a gain that is told or measured wrong, it leaves
  grain, or takes texture for it.
"""


def row(summary: Summary) -> str:
    """Return a row of a Markdown table."""
    low, high = (1e3 * limit for limit in summary.mse_interval)
    error = f"{1e3 * summary.mse:.3f} ({low:.3f} to {high:.3f})"
    low, high = summary.ssim_interval
    return f"| {summary.method} | {error} | {summary.ssim:.3f} ({low:.3f} to {high:.3f}) |"


def score_table(summaries: list[Summary]) -> str:
    """Return a Markdown table of one dose range."""
    head = "| method | MSE x 1e-3 | SSIM |\n|---|---|---|\n"
    return head + "\n".join(map(row, summaries))


def write_card(
    dose: str, table: dict[str, list[Summary]], about: dict, facts: dict
) -> None:
    """Write the card of one weight file beside it."""
    summaries = next(iter(table.values()))
    shown = [name for name in table if dose in ("auto", name)]
    path = WEIGHTS / f"{dose}.keras"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if about["weights"][path.name] != digest:
        raise SystemExit(f"{SCORES} is of other weights than {path}")
    model = keras.models.load_model(path, compile=False)
    card = CARD.format(
        file=path.name,
        parameters=sum(math.prod(each.shape) for each in model.trainable_variables),
        macs=count_macs(model) / 1e9,
        dose=DOSES[dose],
        recipe=RECIPES[dose],
        network=NETWORK[dose],
        data=DATA[dose],
        tells=TELLS[dose],
        digest=digest,
        instances=summaries[0].instances,
        seed=about["config"]["seed"],
        tensorflow=about["versions"]["tensorflow"],
        numpy=about["versions"]["numpy"],
        tables="\n\n".join(
            f"{name.capitalize()} dose:\n\n{score_table(table[name])}" for name in shown
        ),
        **facts,
    )
    (WEIGHTS / f"{dose}.md").write_text(card)


def readme_table(table: dict[str, list[Summary]]) -> str:
    """Return some methods at both doses."""
    lines = [
        "| | low dose: MSE x 1e-3, SSIM | ordinary dose: MSE x 1e-3, SSIM |",
        "|---|---|---|",
    ]
    by_name = {dose: {s.method: s for s in summaries} for dose, summaries in table.items()}
    for name in SHOWN:
        cells = [
            f"{1e3 * by_name[dose][name].mse:.3f}, {by_name[dose][name].ssim:.3f}"
            for dose in table
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write the cards and the table."""
    rows = read_rows(SCORES)
    about = json.loads(SCORES.with_suffix(".json").read_text())
    facts = {
        "images": len({each.file for each in rows}),
        "sources": len({each.source for each in rows}),
    }
    table = summarise(rows)
    for dose in DOSES:
        write_card(dose, table, about, facts)
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(START)
    readme.write_text(
        f"{before}{START}\n\n{readme_table(table)}\n\n{END}{rest.split(END)[1]}"
    )


if __name__ == "__main__":
    main()
