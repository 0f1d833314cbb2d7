"""Write the model cards of the shipped weights, and the README's table, from scores.

    emdn benchmark CORPUS --split val --instances 42 -o benchmarks/results/val.csv
    python benchmarks/model_cards.py

The scores must be of the weights that ship: their hashes are compared.
"""

import hashlib
import json
import math
from pathlib import Path

import keras

from emdn.benchmark import NETWORK, Summary, read_rows, summarise
from emdn.denoiser import WEIGHTS
from emdn.model import count_macs

ROOT = Path(__file__).parents[1]
SCORES = ROOT / "benchmarks" / "results" / "val.csv"
SHOWN = (NETWORK, "unfiltered", "Gaussian", "Wiener", "Chambolle TV", "Gaussian, told")
SHOWN += ("NL means, stabilised", "wavelet, stabilised")
START, END = (
    "<!-- scores: written by benchmarks/model_cards.py -->",
    "<!-- end of scores -->",
)

DOSES = {
    "low": "scales of 25 + Exp(75) counts at the brightest pixel, 25 to some 300",
    "ordinary": "scales of 200 to 2500 counts at the brightest pixel",
}
RECIPES = {
    "low": "9000 steps of 8 crops of\n  128 x 128 pixels from random weights, "
    "then 1000 steps of 2 crops of 256 x 256",
    "ordinary": "4500 steps of 8 crops of\n  128 x 128 pixels from the low-dose weights, "
    "then 1000 steps of 2 crops of 256 x 256",
}

CARD = """\
# Model card: {file}

First weights: a small network, trained for less than two hours in all on two cores of a
processor. They are there so that everything can be tried, and will be replaced.

- **Network**: `emdn.model.SMALL`, {parameters:,} trainable parameters, {macs:.2f} GMAC for
  512 x 512 pixels.
- **Meant for**: shot noise at {dose}.
  It knows no other noise: no detector blur, no scan distortion, no noise that binning or
  compression correlated.
- **Recipe**: `benchmarks/train_first_weights.py`: {recipe}.
  Huberised MSE, Adam with beta1 0.5, a cosine of learning rates, averaged weights, batch
  normalisations frozen from step 400 on.
- **Data**: 47 micrographs, half of them one series of coatings in backscattered SEM, others
  SEM and TEM of axons and cortex, TEM of polymer networks and atomic STEM, from the open
  repositories nasa/pretrained-microscopy-models (MIT), axondeepseg/data_axondeepseg_sem
  (MIT), saalfeldlab/render (GPL-2.0), owuordickson/structural-gt (GPL-3.0) and
  sdfunni/SingleOrigin (GPL-3.0); and, for 35 % of crops, formulas of `emdn.synthetic`.
  No micrograph is part of this project. Fresh noise for each crop, eight symmetries, random
  inversion, and random intensity for half of the crops.
- **SHA-256**: `{digest}`

## Scores on validation micrographs

{images} micrographs of sources that are not in training (SEM, TEM of cortex, one STEM),
{instances} instances of noise in all, the paper's protocol, everything clipped to [0, 1].
The filters called *told* and *stabilised* know the true noise and were tuned on these
micrographs; the network is told nothing. In brackets, a 95 % interval of the mean over
sources, of which there are only {sources}. Seed {seed}; tensorflow {tensorflow},
numpy {numpy}.

{table}

## Known failures

- From pure noise it makes blotches that look like a specimen: see "When not to believe it"
  in the book's quickstart.
- Texture as fine and as weak as the noise is smoothed away, and single atoms with it.
- At this size and training it is behind the best filter that is told the noise, above; take
  the differences seriously where they are larger than the intervals.
"""


def row(summary: Summary) -> str:
    """Return a row of a Markdown table."""
    low, high = (1e3 * limit for limit in summary.mse_interval)
    error = f"{1e3 * summary.mse:.3f} ({low:.3f} to {high:.3f})"
    low, high = summary.ssim_interval
    return f"| {summary.method} | {error} | {summary.ssim:.3f} ({low:.3f} to {high:.3f}) |"


def write_card(dose: str, summaries: list[Summary], about: dict, facts: dict) -> None:
    """Write the card of one weight file beside it."""
    path = WEIGHTS / f"{dose}.keras"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if about["weights"][path.name] != digest:
        raise SystemExit(f"{SCORES} is of other weights than {path}")
    model = keras.models.load_model(path, compile=False)
    head = "| method | MSE x 1e-3 | SSIM |\n|---|---|---|\n"
    card = CARD.format(
        file=path.name,
        parameters=sum(math.prod(each.shape) for each in model.trainable_variables),
        macs=count_macs(model) / 1e9,
        dose=DOSES[dose],
        recipe=RECIPES[dose],
        digest=digest,
        instances=summaries[0].instances,
        seed=about["config"]["seed"],
        tensorflow=about["versions"]["tensorflow"],
        numpy=about["versions"]["numpy"],
        table=head + "\n".join(map(row, summaries)),
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
    for dose, summaries in table.items():
        write_card(dose, summaries, about, facts)
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(START)
    readme.write_text(
        f"{before}{START}\n\n{readme_table(table)}\n\n{END}{rest.split(END)[1]}"
    )


if __name__ == "__main__":
    main()
