"""Splits never share a source, and nothing bad gets in."""

import math
from collections import Counter

import imageio.v3 as iio
import numpy as np
import pytest
from helpers.corpora import ALL_TRAIN, config_of, counts, fill

from emdn.data.augment import Augmentation
from emdn.data.corpus import (
    SPLITS,
    DataConfig,
    Entry,
    Record,
    describe,
    noise_to_signal,
    read_manifest,
    read_survey,
    require_unchanged,
    survey,
    too_many_lost,
    write_manifest,
    write_survey,
)
from emdn.data.sampler import Sampler
from emdn.io import write_micrograph


def splits_of(records):
    return {record.file: record.split for record in records}


def faults_of(folder, **changes):
    records = survey(config_of(folder, **changes))
    return {record.file: record.fault for record in records}


# Splits.


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return a folder of 60 sources of one to four micrographs."""
    sizes = np.random.default_rng(0).integers(1, 5, 60)
    names = [f"{s:02}/{n}.npy" for s, size in enumerate(sizes) for n in range(size)]
    return fill(tmp_path_factory.mktemp("sources"), *names, shape=(16, 16))


def test_the_seed_decides_on_the_split(sources):
    config = config_of(sources, fractions=(0.66, 0.14, 0.20))
    first = survey(config, seed=3)
    assert survey(config, seed=3) == first
    assert splits_of(survey(config, seed=4)) != splits_of(first)


@pytest.mark.parametrize("fractions", [(0.66, 0.14, 0.20), (0.5, 0.5, 0.0), ALL_TRAIN])
def test_fractions_are_met_to_the_size_of_a_source(fractions, sources):
    records = survey(config_of(sources, fractions=fractions), seed=1)
    for split, fraction in zip(SPLITS, fractions, strict=True):
        found = sum(record.split == split for record in records)
        assert found == pytest.approx(fraction * len(records), abs=4)
        assert fraction or not found


@pytest.mark.parametrize("seed", range(5))
def test_no_source_is_in_two_splits(seed, sources):
    records = survey(config_of(sources, fractions=(0.4, 0.3, 0.3)), seed=seed)
    both = {(record.source, record.split) for record in records}
    assert {split for _, split in both} == set(SPLITS)
    assert len(both) == len({record.source for record in records}) == 60


def test_a_source_is_a_subfolder_or_else_a_file(tmp_path):
    fill(tmp_path, "s/a.npy", "s/deep/b.npy", "t/a.npy", "c.npy", "d.npy")
    records = survey(config_of(tmp_path))
    assert {record.file: record.source for record in records} == {
        "c.npy": "c.npy",
        "d.npy": "d.npy",
        "s/a.npy": "s",
        "s/deep/b.npy": "s",
        "t/a.npy": "t",
    }


def test_subfolders_train_val_and_test_are_splits(tmp_path):
    """Equal names of files in two of them do not make one source."""
    fill(tmp_path, "train/a.npy", "train/s/b.npy", "val/a.npy", "test/t/a.npy")
    records = survey(config_of(tmp_path))
    assert splits_of(records) == {
        "test/t/a.npy": "test",
        "train/a.npy": "train",
        "train/s/b.npy": "train",
        "val/a.npy": "val",
    }
    assert [r.source for r in records if r.file in ("train/s/b.npy", "test/t/a.npy")] == [
        "t",
        "s",
    ]


def test_a_manifest_names_files_sources_and_splits(tmp_path):
    fill(tmp_path, "a.npy", "b.npy", "s/c.npy", "d.npy")
    (tmp_path / "manifest.csv").write_text(
        "source,file,split\nx,a.npy,val\nx,b.npy,val\ny,s/c.npy,train\n"
    )
    records = survey(config_of(tmp_path))  # d.npy is not in it
    assert [record[:3] for record in records] == [
        ("a.npy", "x", "val"),
        ("b.npy", "x", "val"),
        ("s/c.npy", "y", "train"),
    ]


def test_a_manifest_may_leave_the_split_to_us(tmp_path):
    names = [f"{number}.npy" for number in range(30)]
    fill(tmp_path, *names, shape=(16, 16))
    rows = [f"{name},{number // 3}\n" for number, name in enumerate(names)]
    (tmp_path / "manifest.csv").write_text("file,source\n" + "".join(rows))
    records = survey(config_of(tmp_path, fractions=(0.6, 0.2, 0.2)))
    assert len({(record.source, record.split) for record in records}) == 10
    sizes = Counter(record.split for record in records)
    assert sizes == pytest.approx({"train": 18, "val": 6, "test": 6}, abs=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,split\na.npy,train\n",
            "line 1: must name columns file and .*, got file",
        ),
        ("file,source\n", "names no micrograph; add a line for each"),
        ("", "line 1: must name columns file and source, got nothing"),
        ("file,source,FILE\na.npy,a,b\n", "line 1: names column file twice"),
        ("file,source,split\na.npy,a,training\n", "line 2: .*test, got 'training'"),
        ("file,source\na.npy,a\n\n,b\n", "line 4: has no file; fill it in"),
        ("file,source\na.npy\n", "line 2: has no source; fill it in"),
        ("file,source\na, b.npy,a\n", "line 2: has 3 cells under 2 columns; put quotes"),
        ("file,source\na.npy,a\n./a.npy,b\n", "line 3: names a.npy again, as line 2;"),
        ("file,source\n../a.npy,a\n", r"line 2: \.\./a\.npy is no file inside the folder"),
        ("file,source\ns/../../a.npy,a\n", "line 2: .* is no file inside the folder"),
        ("file,source\n..\\a.npy,a\n", "line 2: .* is no file inside the folder"),
        ("file,source\n/etc/passwd,a\n", "line 2: /etc/passwd is no file inside"),
        ("file,source\nC:\\a.npy,a\n", "line 2: C:/a.npy is no file inside the folder"),
        ("file,source\n\\\\server\\a.npy,a\n", "line 2: .* is no file inside the folder"),
        ("file,source\na\x1b.npy,a\n", "line 2: .*x1b.npy' is no name of a file"),
        ('file,source\n"a.npy,a\n', "line 2: is no line of a CSV file"),
        (b"file,source\n\xe4.npy,a\n", "line 2: is no text in UTF-8; save .* CSV UTF-8"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused(text, message, tmp_path):
    fill(tmp_path, "a.npy")
    contents = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "manifest.csv").write_bytes(contents)
    with pytest.raises(ValueError, match=rf"manifest\.csv.*{message}") as caught:
        survey(config_of(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "contents",
    [
        b"file,source,split\ns/a.npy,x,val\n",
        b"\xef\xbb\xbffile,source,split\r\ns/a.npy,x,val\r\n",
        b"sep=;\r\nfile;source;split\r\ns/a.npy;x;val\r\n",
        b" File ; Source ;SPLIT\n s/a.npy ; x ;Val\n;;\n\n",
        b"file\tsource\tsplit\ns/a.npy\tx\tval\n",
        "file\tsource\tsplit\r\ns/a.npy\tx\tval\r\n".encode("utf-16"),
        b"file,source,split\rs/a.npy,x,val",
        b'"file","source","split"\n"s/a.npy","x","val"\n',
        b',notes,source,file,split\n0,"a, b",x,s/a.npy,val\n',
        b"file,source,split\ns\\a.npy,x,val\n",
        b"file,source,split\n./s//../s/a.npy,x,val\n",
    ],
)
def test_a_manifest_may_come_from_a_spreadsheet_program(contents, tmp_path):
    (tmp_path / "manifest.csv").write_bytes(contents)
    assert read_manifest(tmp_path) == [Entry("s/a.npy", "x", "val", "")]


def test_a_backslash_that_is_part_of_a_name_stays(tmp_path):
    fill(tmp_path, "a\\b.npy")
    (tmp_path / "manifest.csv").write_text("file,source\na\\b.npy,x\n")
    assert read_manifest(tmp_path)[0].file == "a\\b.npy"


def test_entries_keep_their_order_and_come_back_as_they_were_written(tmp_path):
    entries = [
        Entry("s/\N{MICRO SIGN}, b.tif", 'the "first"; or so', "train", "TEM"),
        Entry("a.tif", "x\ty"),
        Entry("b.tif", "z", "test", "SEM"),
    ]
    write_manifest(tmp_path, entries)
    assert read_manifest(tmp_path) == entries
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def test_a_folder_without_a_manifest_is_told_of_it(tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.csv: does not exist; write one"):
        read_manifest(tmp_path)


def test_files_with_a_dot_in_front_are_left_aside(tmp_path):
    """What macOS and killed programs leave behind is no micrograph."""
    fill(tmp_path, "a.npy", "s/b.npy", ".cache/c.npy")
    (tmp_path / "._a.npy").write_bytes(b"attributes of a file")
    records = survey(config_of(tmp_path))
    assert [record.file for record in records] == ["a.npy", "s/b.npy"]


def test_a_source_in_two_splits_is_refused(tmp_path):
    fill(tmp_path, "train/s/a.npy", "val/s/b.npy")
    message = r"train/s/a\.npy in train and val/s/b\.npy in val are of the same source"
    with pytest.raises(ValueError, match=message):
        survey(config_of(tmp_path))


def test_a_file_in_two_splits_is_refused_under_any_name(tmp_path):
    fill(tmp_path, "train/a.npy", "train/b.npy", "test/c.npy")
    (tmp_path / "test" / "d.npy").write_bytes((tmp_path / "train" / "b.npy").read_bytes())
    message = r"test/d\.npy in test and train/b\.npy in train are of the same contents"
    with pytest.raises(ValueError, match=message):
        survey(config_of(tmp_path))


def test_a_file_twice_in_one_split_is_allowed(tmp_path):
    fill(tmp_path, "train/a.npy")
    (tmp_path / "train" / "b.npy").write_bytes((tmp_path / "train" / "a.npy").read_bytes())
    assert len(survey(config_of(tmp_path))) == 2


# Quality.


def nearly_even(mean):
    """Return an image of a mean that is no constant."""
    return np.where(np.indices((16, 16)).sum(axis=0) % 2, mean - 1, mean + 1)


@pytest.mark.parametrize("mean", [1.0, 25.0, 2500.0, 1e6])
def test_noise_to_signal_of_even_counts_is_that_of_poisson(mean):
    for image in (np.full((8, 8), mean), np.full((8, 8), int(mean), np.int32)):
        assert noise_to_signal(image) == pytest.approx(1 / math.sqrt(mean), rel=1e-6)


def test_noise_to_signal_of_nothing_is_infinite():
    assert noise_to_signal(np.zeros((4, 4))) == math.inf
    assert noise_to_signal(np.full((4, 4), -3.0)) == math.inf


def test_a_limit_of_2_per_cent_is_one_of_2500_counts(tmp_path):
    for mean in (2499, 2501):
        np.save(tmp_path / f"{mean}.npy", nearly_even(mean))
    assert faults_of(tmp_path, max_noise_to_signal=0.02) == {
        "2499.npy": "noise-to-signal not below 0.02",
        "2501.npy": "",
    }


def test_dim_micrographs_are_refused_below_the_limit_only(tmp_path):
    for mean in (2499, 2500, 2501):
        np.save(tmp_path / f"{mean}.npy", nearly_even(mean))
    assert faults_of(tmp_path, min_mean=2500.0) == {
        "2499.npy": "mean below 2500",
        "2500.npy": "",
        "2501.npy": "",
    }


def test_micrographs_of_no_use_are_refused_with_the_reason(tmp_path):
    fill(tmp_path, "good.npy", shape=(32, 40))
    fill(tmp_path, "narrow.npy", shape=(40, 31))
    np.save(tmp_path / "flat.npy", np.full((32, 32), 7))
    infinite = np.inf
    for values in ([np.nan], [infinite], [infinite, -infinite]):
        image = counts(8, (32, 32))
        image[0, : len(values)] = values
        np.save(tmp_path / f"{values}.npy", image)
    assert faults_of(tmp_path, downsizing=2) == {
        "[inf, -inf].npy": "holds NaN or infinities",
        "[inf].npy": "holds NaN or infinities",
        "[nan].npy": "holds NaN or infinities",
        "flat.npy": "constant",
        "good.npy": "",
        "narrow.npy": "smaller than a crop of 16 after downsizing",
    }


def test_records_tell_sizes_and_means(tmp_path):
    image = counts(0, (20, 30))
    np.save(tmp_path / "a.npy", image)
    (record,) = survey(config_of(tmp_path))
    assert (record.height, record.width) == (20, 30)
    assert record.mean == pytest.approx(image.mean())
    assert record.noise_to_signal == pytest.approx(noise_to_signal(image))
    assert not record.unreadable


# Files that cannot be read.


def damage(folder, number):
    """Write files that are none of their format."""
    for each in range(number):
        (folder / f"damaged {each}.tif").write_bytes(b"not a TIFF")


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    """Return a folder of 99 good files and one damaged one."""
    names = [f"{number:02}.npy" for number in range(99)]
    folder = fill(tmp_path_factory.mktemp("hundred"), *names, shape=(16, 16))
    damage(folder, 1)
    return folder


def test_an_unreadable_file_is_reported_and_never_becomes_an_image(hundred):
    """Exactly 1 % may be so."""
    config = config_of(hundred)
    records = survey(config)
    (lost,) = [record for record in records if record.unreadable]
    assert lost.file == "damaged 0.tif"
    assert "damaged 0.tif: cannot be read as TIF" in lost.fault
    assert len(records) == 100
    used = Sampler(records, config).records
    assert lost not in used
    assert len(used) == 99
    assert any("damaged 0.tif" in line for line in describe(records))


def test_more_unreadable_files_than_1_per_cent_are_refused(tmp_path):
    fill(tmp_path, *(f"{number:02}.npy" for number in range(98)), shape=(16, 16))
    damage(tmp_path, 2)
    message = r"2 of 100 micrographs cannot be read, more than 1%.*damaged 0\.tif: cannot"
    with pytest.raises(ValueError, match=message):
        survey(config_of(tmp_path))


@pytest.mark.parametrize("hundreds", [1, 3, 7, 29, 57, 113])
def test_one_of_a_hundred_may_be_unreadable_and_no_more(hundreds):
    assert not too_many_lost(hundreds, 100 * hundreds)
    assert too_many_lost(hundreds, 100 * hundreds - 1)


def test_a_file_of_the_manifest_that_is_missing_is_unreadable(tmp_path):
    fill(tmp_path, "a.npy")
    (tmp_path / "manifest.csv").write_text("file,source\na.npy,a\nb.npy,b\n")
    with pytest.raises(ValueError, match=r"1 of 2 micrographs cannot be read.*b\.npy"):
        survey(config_of(tmp_path))


def test_a_folder_without_use_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere: is no folder"):
        survey(config_of(tmp_path / "nowhere"))
    (tmp_path / "notes.txt").write_text("no micrograph")
    with pytest.raises(ValueError, match=r"holds no micrograph; files end in \.tif"):
        survey(config_of(tmp_path))
    fill(tmp_path, "a.npy", "b.npy", mean=10.0)
    message = "no micrograph is left to train on; most are refused: mean below 50"
    with pytest.raises(ValueError, match=message):
        survey(config_of(tmp_path, min_mean=50.0))
    with pytest.raises(ValueError, match=r"no micrograph is left to train on$"):
        survey(config_of(tmp_path, fractions=(0.0, 1.0, 0.0)))


def test_files_of_several_formats_make_the_same_crops(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 24)).astype(np.uint8)
    names = ("a.tif", "b.TIFF", "c.npy", "d.mrc", "e.png")
    for name in names[:4]:
        write_micrograph(tmp_path / name, image.astype(np.int16))
    iio.imwrite(tmp_path / "e.png", image)
    (tmp_path / "notes.txt").write_text("no micrograph")
    config = config_of(tmp_path, crops_per_visit=1)
    records = survey(config)
    assert tuple(record.file for record in records) == names
    crops = [
        Sampler([record], config).crop(0, np.random.default_rng(0)) for record in records
    ]
    np.testing.assert_array_equal(crops, crops[:1] * 5)


# What the survey leaves behind.


def test_a_survey_is_read_as_it_was_written(tmp_path):
    records = [
        Record("a, b.tif", 'the "first"', "train", 20, 30, 1 / 3, 0.1 + 0.2, "0a1b"),
        Record("s/µ.npy", "s", "val", fault="s/µ.npy: is cut short;\ncopy it again"),
        Record("c.npy", "c", "test", 1, 1, math.inf, 5e-324, fault="holds NaN, or so"),
    ]
    write_survey(tmp_path / "survey.csv", records)
    again = read_survey(tmp_path / "survey.csv")
    assert list(map(repr, again)) == list(map(repr, records))  # NaN is not equal to NaN
    assert [path.name for path in tmp_path.iterdir()] == ["survey.csv"]


@pytest.mark.parametrize("line", ["a.npy,a,train,x,1,1,1,,", "a.npy,a", '"a'])
def test_a_damaged_survey_is_refused(line, tmp_path):
    write_survey(tmp_path / "survey.csv", [Record("b.npy", "b", "train", 1, 1)])
    with (tmp_path / "survey.csv").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=r"survey\.csv: is damaged; remove"):
        read_survey(tmp_path / "survey.csv")


def test_other_pixels_under_an_old_name_are_noticed(tmp_path):
    """What cannot be read any more is no other micrograph, and neither is a copy."""
    fill(tmp_path, "a.npy", "b.npy", "c.npy", "d.npy")
    records = survey(config_of(tmp_path))
    (tmp_path / "a.npy").unlink()
    (tmp_path / "b.npy").write_bytes(b"damaged")
    (tmp_path / "c.npy").write_bytes((tmp_path / "c.npy").read_bytes())
    require_unchanged(records, tmp_path)
    np.save(tmp_path / "d.npy", np.load(tmp_path / "d.npy") + 1)
    with pytest.raises(ValueError, match=r"d\.npy: is another micrograph than when"):
        require_unchanged(records, tmp_path)


def test_the_description_counts_micrographs_sources_and_faults():
    records = [
        Record("s/a.tif", "s", "train", 1),
        Record("s/b.tif", "s", "train", 1),
        Record("c.tif", "c", "train", 1, fault="constant"),
        Record("d.tif", "d", "val", 1, fault="constant"),
        Record("e.tif", "e", "test", fault="e.tif: is cut short"),
        Record("f.tif", "f", "test", 1),
    ]
    assert describe(records) == [
        "train: 2 micrographs of 1 sources",
        "val: 0 micrographs of 0 sources",
        "test: 1 micrographs of 1 sources",
        "refused, 2: constant",
        "refused, 1: e.tif: is cut short",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 0}, "crop must be a multiple of 16, got 0"),
        ({"crop": 40}, "crop must be a multiple of 16, got 40"),
        ({"crop": -16}, "crop must be a multiple of 16, got -16"),
        ({"downsizing": 0}, "downsizing must be at least 1, got 0"),
        ({"crops_per_visit": 0}, "crops_per_visit must be from 1 to 1000000, got 0"),
        ({"crops_per_visit": 10**30}, "crops_per_visit must be from 1 to 1000000, got 1"),
        ({"min_mean": math.nan}, "min_mean must be a finite number, got nan"),
        ({"max_noise_to_signal": math.nan}, "max_noise_to_signal must be a finite"),
        ({"source_exponent": math.nan}, "source_exponent must be from 0 to 1, got nan"),
        ({"source_exponent": 2.0}, "source_exponent must be from 0 to 1, got 2.0"),
        ({"cache": -1.0}, "cache must be 0 or more, got -1.0"),
        ({"fractions": (math.nan, 0.5, 0.5)}, r"add to 1, got \(nan, 0.5, 0.5\)"),
        ({"scenes": -0.1}, "scenes must be a share from 0 to 1, got -0.1"),
        ({"scenes": 1.5}, "scenes must be a share from 0 to 1, got 1.5"),
        ({"scenes": math.nan}, "scenes must be a share from 0 to 1, got nan"),
        ({"fractions": (0.5, 0.2, 0.2)}, r"add to 1, got \(0.5, 0.2, 0.2\)"),
        ({"fractions": (1.2, -0.2, 0.0)}, r"add to 1, got \(1.2, -0.2, 0.0\)"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        DataConfig(tmp_path, **settings)


# Micrographs that are noisy themselves.


@pytest.mark.parametrize("change", [0.5, -200.0], ids=["no whole number", "negative"])
def test_what_is_no_counts_is_refused_for_thinning(change, tmp_path):
    image = counts(0, (16, 16)).astype(np.float32)
    np.save(tmp_path / "good.npy", image)
    image[3, 4] = image[3, 4] + change if change > 0 else change
    np.save(tmp_path / "bad.npy", image)
    wanted = {"good.npy": "", "bad.npy": "no whole counts, which thinning needs"}
    assert faults_of(tmp_path, thinned=0.5, fractions=ALL_TRAIN) == wanted
    assert not any(faults_of(tmp_path, fractions=ALL_TRAIN).values())


@pytest.mark.parametrize(
    "settings",
    [{"downsizing": 2}, {"scenes": 0.1}, {"augmentation": Augmentation()}],
    ids=lambda settings: next(iter(settings)),
)
def test_thinning_takes_counts_as_they_are(settings):
    with pytest.raises(ValueError, match="thinned divides counts as they are; remove"):
        config_of("micrographs", thinned=0.8, **settings)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, math.nan])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="thinned must be between 0 and 1"):
        config_of("micrographs", thinned=share)
