"""Join the files of a benchmark, and write what is published of them.

    python studies/paper/publish.py runs/test/networks.csv runs/test/filters.csv \
        runs/test/bm3d.csv -o emdn/benchmark/results/test.csv.xz

Writes all rows, with five digits of each number, packed by xz, and beside them a JSON file:
how the benchmark was made, and the scores by dose range, and by source within them.
"""

import argparse
import csv
import io
import json
import lzma
import re
from pathlib import Path
from typing import Any

from emdn.benchmark.rows import Row, about_path, read_about, read_rows
from emdn.benchmark.tables import Summary, summarise
from emdn.files import written_whole

DIGITS = 5
OVERALL = ("instances", "mse", "mse_interval", "mse_deviation", "ssim", "ssim_interval")
OVERALL += ("psnr", "mse_paper", "mse_paper_deviation", "ssim_paper", "seconds")
BY_SOURCE = ("instances", "mse", "ssim")


def short(value: Any) -> Any:
    """Return a number with few digits; anything else as it is."""
    if isinstance(value, tuple):
        return [short(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def packed(rows: list[Row]) -> bytes:
    """Return rows as a CSV file packed by xz."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(Row._fields)
    writer.writerows([short(value) for value in row] for row in rows)
    return lzma.compress(text.getvalue().encode(), preset=9 | lzma.PRESET_EXTREME)


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


def chosen(summary: Summary, names: tuple[str, ...]) -> dict[str, Any]:
    """Return some scores of a method."""
    return {name: short(getattr(summary, name)) for name in names}


def scores(rows: list[Row]) -> dict[str, Any]:
    """Return scores by dose range and method, and by dose range, source and method."""
    by_source: dict[str, dict[str, Any]] = {}
    for dose_range, summaries in summarise(rows, by="source").items():
        groups = by_source.setdefault(dose_range, {})
        for each in summaries:
            groups.setdefault(each.group, {})[each.method] = chosen(each, BY_SOURCE)
    overall = {
        dose_range: {each.method: chosen(each, OVERALL) for each in summaries}
        for dose_range, summaries in summarise(rows).items()
    }
    return {"scores": overall, "scores_by_source": by_source}


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
