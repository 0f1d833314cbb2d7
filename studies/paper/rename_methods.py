"""Give the methods of published results their identifiers, once; nothing is scored anew.

    python studies/paper/rename_methods.py emdn/benchmark/results/*.csv.xz \
        emdn/benchmark/results/*.json studies/results/*.json

Until methods had identifiers, results named them by what a table shows, with commas. The
script replaces those names in packed rows and in JSON, as text, so that no number can
change. It is kept to show how the published files came about.
"""

import argparse
import lzma
from pathlib import Path

from emdn.benchmark.methods import METHODS
from emdn.benchmark.rows import read_rows
from emdn.files import written_whole

FORMER = {
    method.name: method.label.replace("gain-aware", "told") for method in METHODS.values()
}
FORMER |= {"emdn-true-gain": "emdn, told", "median-tuned": "median, told"}
# Names in paper_slips.json alone:
FORMER |= {
    f"{name}{end.replace(', ', '-')}": FORMER[name] + end
    for name in ("nl-means", "wavelet")
    for end in (", 2018", ", low", ", ordinary")
}


def renamed(text: str) -> str:
    """Return rows or JSON with identifiers in the place of former names."""
    for name, former in FORMER.items():
        cell = f'"{former}"' if "," in former else former
        text = text.replace(f",{cell},", f",{name},").replace(f'"{former}"', f'"{name}"')
    return text


def main() -> None:
    """Rewrite files, and see that rows can be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+")
    for path in parser.parse_args().results:
        packed = path.suffix == ".xz"
        before = path.read_bytes()
        after = renamed((lzma.decompress(before) if packed else before).decode()).encode()
        if packed:
            after = lzma.compress(after, preset=9 | lzma.PRESET_EXTREME)
        with written_whole(path) as temporary:
            temporary.write_bytes(after)
        if not packed:
            continue
        names = set(read_rows(path)["method"])
        if unknown := names - {*METHODS}:
            raise SystemExit(f"{path}: still has {', '.join(sorted(unknown))}")
        print(f"{path}: {len(names)} methods, {len(after) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
