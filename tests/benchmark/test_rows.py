"""Rows are read as they were written, or refused."""

import lzma
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.cheap_methods import CHEAP

from emdn.benchmark.instances import BenchmarkConfig
from emdn.benchmark.rows import Row, of_stem, read_about, read_rows, telling_instances
from emdn.benchmark.run import run_benchmark


def untimed(*paths):
    """Return rows without their times, which alone differ from run to run."""
    return read_rows(*paths).drop(columns="seconds")


def test_methods_in_several_files_are_read_as_if_in_one(config, whole, tmp_path):
    paths = [
        run_benchmark(config, tmp_path / file, methods)
        for file, methods in (("first.csv", CHEAP[:2]), ("last.csv", CHEAP[2:]))
    ]
    pd.testing.assert_frame_equal(untimed(*paths), untimed(whole))


def test_files_of_other_instances_or_with_a_method_twice_are_not_read_together(
    folder, whole, tmp_path
):
    other = BenchmarkConfig(folder, instances=5, crop=48, seed=1)
    path = run_benchmark(other, tmp_path / "rows.csv", CHEAP)
    with pytest.raises(ValueError, match=r"rows.csv: is of other instances than"):
        read_rows(whole, path)
    with pytest.raises(ValueError, match=r"median.*: in more than one of the files"):
        read_rows(whole, whole)


def test_packed_rows_are_read_like_others(whole, tmp_path):
    packed = tmp_path / "rows.csv.xz"
    packed.write_bytes(lzma.compress(whole.read_bytes()))
    pd.testing.assert_frame_equal(read_rows(packed), read_rows(whole))
    with pytest.raises(ValueError, match=r"rows.json: does not exist"):
        read_about(packed)


def swapped(lines):
    lines[5], lines[6] = lines[6], lines[5]


def without_an_instance(lines):
    del lines[4:7]


def without_the_last_of_a_dose_range(lines):
    del lines[13:16]


def with_cell(line, column, text):
    def change(lines):
        cells = lines[line].split(",")
        cells[Row._fields.index(column)] = text
        lines[line] = ",".join(cells)

    return change


DAMAGES = {
    "a line is doubled": lambda lines: lines.insert(5, lines[5]),
    "the first line is doubled": lambda lines: lines.insert(1, lines[1]),
    "a line is removed": lambda lines: lines.pop(5),
    "the first line is removed": lambda lines: lines.pop(1),
    "the last line is removed": lambda lines: lines.pop(-1),
    "lines are swapped": swapped,
    "an instance is removed": without_an_instance,
    "a dose range lacks its last": without_the_last_of_a_dose_range,
    "another header": lambda lines: lines.__setitem__(0, lines[0].replace("mse", "MSE")),
    "no header": lambda lines: lines.pop(0),
    "a line is cut": lambda lines: lines.__setitem__(7, lines[7][:-30]),
    "a line has a cell too many": lambda lines: lines.__setitem__(7, lines[7] + ",1"),
    "letters for digits": with_cell(7, "mse", "0.0o3"),
    "a digit of a scale": with_cell(7, "scale", "91.0"),
    "a digit of a dose": with_cell(7, "dose", "91.0"),
    "an error above the paper's": with_cell(7, "mse", "0.9"),
    "an error below 0": with_cell(7, "mse", "-0.001"),
    "a likeness above 1": with_cell(7, "ssim", "1.5"),
    "another file": with_cell(7, "file", "9.tif"),
    "another method": with_cell(7, "method", "wiener"),
    "no time": with_cell(7, "seconds", ""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused_in_one_line(scores, config, damage):
    """Both where they are read and where a benchmark would go on with them."""
    lines = scores.read_text().splitlines()
    DAMAGES[damage](lines)
    scores.write_text("\n".join(lines) + "\n", newline="\r\n")
    damaged = scores.read_bytes()
    with pytest.raises(ValueError, match=r"rows\.csv") as caught:
        read_rows(scores)
    assert len(str(caught.value).splitlines()) == 1
    # What is missing at the end is computed; all else is no file to append to.
    if damage != "the last line is removed":
        with pytest.raises(ValueError, match=r"rows\.csv"):
            run_benchmark(config, scores, CHEAP)
        assert scores.read_bytes() == damaged


def test_scores_that_are_not_finite_are_read(scores):
    text = scores.read_text().splitlines()
    cells = text[7].split(",")
    cells[8:12] = ["nan"] * 4
    text[7] = ",".join(cells)
    scores.write_text("\n".join(text) + "\n")
    assert read_rows(scores)[["mse", "ssim_paper"]].isna().sum().tolist() == [1, 1]


def test_rows_and_tables_need_neither_opencv_nor_tensorflow(whole):
    code = (
        "import sys\n"
        "sys.modules['cv2'] = sys.modules['tensorflow'] = None\n"
        "from emdn.benchmark.rows import read_rows\n"
        "from emdn.benchmark.tables import latex_table, markdown_table, summarise\n"
        f"summary = summarise(read_rows({str(whole)!r}))\n"
        "print(markdown_table(summary), latex_table(summary))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "| Gaussian |" in done.stdout, done.stderr


def test_stem_is_not_serial_section_tem():
    kinds = ["STEM HAADF", "TEM bio (ssTEM)", "atomic STEM", "SYSTEM"]
    assert list(of_stem(pd.DataFrame({"modality": kinds}))["modality"]) == kinds[::2]


def scored(errors, dose_range="low"):
    """Return rows of errors by method and instance."""
    return pd.DataFrame(
        [
            Row(
                dose_range, number, method, "f", "s", "m", 50, 20, error, 0.9, error, 0.9, 0
            )
            for method, values in errors.items()
            for number, error in values.items()
        ]
    )


ERRORS = {
    "own": {0: 0.2, 1: 0.1, 2: 0.8, 3: 0.3, 4: 0.5},
    "this": {0: 0.1, 1: 0.4, 2: 0.9, 3: 0.3, 4: 0.5},
    "that": {0: 0.3, 1: 0.2, 2: 0.8, 3: 0.1, 4: 0.4},
}  # ratios of own to the best rival: 2, 0.5, 1, 3, 1.25


def test_instances_are_ranked_against_the_best_rival_of_each():
    rows = pd.concat([scored(ERRORS), scored({"own": {9: 9}, "this": {9: 1}}, "ordinary")])
    assert telling_instances(rows, "low", "own") == {"best": 1, "median": 4, "worst": 3}
    against_this = telling_instances(rows, "low", "own", rivals=["this"])
    assert against_this == {"best": 1, "median": 3, "worst": 0}


def test_a_method_is_no_rival_of_its_own_family():
    rows = scored({"wavelet": ERRORS["own"], "this": ERRORS["this"]})
    alike = scored({"wavelet-vst": dict.fromkeys(range(5), 0.0)})
    chosen = telling_instances(rows, "low", "wavelet")
    assert telling_instances(pd.concat([rows, alike]), "low", "wavelet") == chosen


def test_instances_without_a_score_are_not_chosen():
    rows = scored(
        {
            "own": {1: 0.1, 2: 0.2, 3: 0.3, 0: math.nan, 4: 0.9, 5: np.inf},
            "this": {1: 0.1, 2: 0.2, 3: 0.3, 0: 0.1, 5: 0.1},
        }
    )
    assert {1, 2, 3} >= set(telling_instances(rows, "low", "own").values())
    with pytest.raises(ValueError, match="no instance of the dose range 'high'"):
        telling_instances(rows, "high", "own")
    with pytest.raises(ValueError, match=r"both 'own' and that"):
        telling_instances(rows, "low", "own", rivals=["that"])
