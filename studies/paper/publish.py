"""Join the files of a benchmark, and write what is published of them.

    python studies/paper/publish.py runs/test/networks.csv runs/test/filters.csv \
        runs/test/bm3d.csv -o emdn/benchmark/results/test.csv.xz

Writes all rows, with five digits of each number, packed by xz, and beside them a JSON file:
how the benchmark was made, and the scores by dose range, and by source within them.
"""

import argparse
import json
import lzma
import re
from pathlib import Path
from typing import Any

import pandas as pd

from emdn.benchmark.rows import about_path, read_about, read_rows
from emdn.benchmark.tables import summarise
from emdn.files import written_whole

DIGITS = 5
OVERALL = ["instances", "mse", "mse_low", "mse_high", "mse_sources", "mse_deviation"]
OVERALL += ["ssim", "ssim_low", "ssim_high", "ssim_sources", "psnr"]
OVERALL += ["mse_paper", "mse_paper_deviation", "ssim_paper", "seconds"]
BY_SOURCE = ["instances", "mse", "ssim"]


def packed(rows: pd.DataFrame) -> bytes:
    """Return rows as a CSV file packed by xz."""
    text = rows.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\r\n")
    return lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)


def as_json(about: dict[str, Any]) -> str:
    """Return JSON with lists, and objects of numbers and lists, on a line each."""
    text = json.dumps(about, indent=1)
    for brackets in (r"\[[^\[\]{}]*\]", r"\{[^{}]*\}"):
        text = re.sub(brackets, lambda found: " ".join(found[0].split()), text)
    return text + "\n"


def joined(abouts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how a benchmark in several files was made, if they agree."""
    first = abouts[0]
    for about in abouts[1:]:
        for name in ("config", "python"):
            if about[name] != first[name]:
                raise SystemExit(
                    f"{name}: {about[name]} in one file, {first[name]} in another"
                )
        for name, version in about["versions"].items():
            if first["versions"].setdefault(name, version) != version:
                raise SystemExit(
                    f"{name}: {version} in one file, {first['versions'][name]}"
                )
    return {
        **first,
        "methods": [name for about in abouts for name in about["methods"]],
        "weights": {k: v for about in abouts for k, v in about["weights"].items()},
    }


def by_method(summary: pd.DataFrame) -> dict[str, Any]:
    """Return the scores of each method, with few digits."""
    records = summary.droplevel(["dose_range", "group"]).to_dict("index")
    return {
        method: {name: float(f"{value:.{DIGITS}g}") for name, value in scores.items()}
        | {"instances": scores["instances"]}
        for method, scores in records.items()
    }


def scores(rows: pd.DataFrame) -> dict[str, Any]:
    """Return scores by dose range and method, and by dose range, source and method."""
    overall, by_source = summarise(rows), summarise(rows, by="source")
    return {
        "scores": {
            dose_range: by_method(summary)
            for dose_range, summary in overall[OVERALL].groupby("dose_range", observed=True)
        },
        "scores_by_source": {
            dose_range: {
                source: by_method(summary)
                for source, summary in of_dose.groupby("group", observed=True)
            }
            for dose_range, of_dose in by_source[BY_SOURCE].groupby(
                "dose_range", observed=True
            )
        },
    }


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows = read_rows(*arguments.parts)
    about = joined([read_about(path) for path in arguments.parts]) | scores(rows)
    with written_whole(arguments.output) as temporary:
        temporary.write_bytes(packed(rows))
    with written_whole(about_path(arguments.output)) as temporary:
        temporary.write_text(as_json(about))
    print(f"{len(rows)} rows, {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
