"""Units, and what a file may say beside the pixels."""

import pytest

from emdn.io import UNITS, Metadata
from emdn.io.metadata import calibrated, first_of, known_unit


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("micron", "um"),
        ("microns", "um"),
        ("µm", "um"),
        ("\N{GREEK SMALL LETTER MU}m", "um"),
        ("\\u00B5m", "um"),
        ("nm", "nm"),
        ("Å", "A"),
        ("\N{ANGSTROM SIGN}", "A"),
        ("1 / nm", "1/nm"),
    ],
)
def test_units_have_one_spelling_in_ascii(written, kept):
    assert Metadata(1.0, written).unit == kept


@pytest.mark.parametrize(
    ("pixel_size", "unit", "words"),
    [
        (0.0, "nm", "must be positive, got 0.0"),
        (float("nan"), "nm", "must be positive, got nan"),
        (1.0, None, "given together"),
        (None, "nm", "given together"),
    ],
)
def test_senseless_metadata_is_refused(pixel_size, unit, words):
    with pytest.raises(ValueError, match=words):
        Metadata(pixel_size, unit)


@pytest.mark.parametrize(
    ("spellings", "unit"),
    [
        ("nm NM n_m [n_m] nanometer nanometers nanometre", "nm"),
        ("um µm μm Âµm u_m [u_m] µ micron Microns micrometre \\u00b5m", "um"),
        ("A Å Ångström angstrom Angstroms ang", "A"),
        ("pm picometer", "pm"),
        ("mm millimetres", "mm"),
        ("1/nm 1/n_m [1/n_m] nm^-1 nm-1 nm⁻¹ 1/(nm) n_m^-1", "1/nm"),
        ("1/A Å^-1 1/Å", "1/A"),
        ("1/um µm^-1", "1/um"),
        ("mrad milliradians", "mrad"),
        ("deg degrees", "deg"),
    ],
)
def test_a_unit_is_known_in_every_spelling(spellings, unit):
    assert {known_unit(text) for text in spellings.split()} == {unit}
    assert Metadata(1.0, spellings.split()[-1]).unit == unit


NO_UNITS = ["", "[]", "pixel", "px", "pixels", "none", "<undefined>", "None", "s", "eV"]
NO_UNITS += ["reference frame", "a.u.", "1", "/", "1/", "nmm", "Mm", "counts", "\0", "nm2"]


@pytest.mark.parametrize("text", NO_UNITS)
def test_what_is_no_unit_gives_no_size(text):
    assert known_unit(text) is None
    assert calibrated(1, 1, text) == Metadata()
    with pytest.raises(ValueError, match="unit must be one of nm, "):
        Metadata(1.0, text)


@pytest.mark.parametrize(
    ("width", "unit", "expected"),
    [
        (2.5e-10, "m", (0.25, "nm")),
        ("2.5e-10", "m", (0.25, "nm")),
        (1e-7, "cm", (1.0, "nm")),
        (1e-7, "inch", (2.54, "nm")),
        (0.25, "A", (0.25, "A")),
        (1e9, "1/m", (1.0, "1/nm")),
        (0.002, "rad", (2.0, "mrad")),
    ],
)
def test_large_units_become_those_of_microscopes(width, unit, expected):
    metadata = calibrated(width, width, unit)
    assert (metadata.pixel_size, metadata.unit) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(
    ("width", "unit", "height", "height_unit", "square"),
    [
        (500, "nm", 0.5, "um", True),
        (1, "A", 100, "pm", True),
        (1, "nm", 1.009, "nm", True),
        (1, "nm", 1.02, "nm", False),
        (1, "nm", 1, "um", False),
        (1, "nm", 1, "1/nm", False),
        (1, "nm", 1, "pixel", False),
        (1, "nm", 1, "s", False),
    ],
)
def test_sides_are_compared_in_one_unit(width, unit, height, height_unit, square):
    expected = Metadata(width, unit) if square else Metadata()
    assert calibrated(width, height, unit, height_unit) == expected


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "size", [0, -1, float("nan"), float("inf"), 1e-30, 1e30, "", "x", None, [], 1e400]
)
def test_a_senseless_size_is_none(size, unit):
    assert calibrated(size, size, unit) == Metadata()


@pytest.mark.parametrize(
    ("size", "unit"), [(4.2e7, "m"), (1, "m"), (1.1, "mm"), (9e-2, "pm"), (1e9, "1/nm")]
)
def test_a_size_no_microscope_has_is_none(size, unit):
    assert calibrated(size, size, unit) == Metadata()


@pytest.mark.parametrize(
    ("size", "unit"),
    [(1 / 72, "inch"), (1 / 300, "inch"), (1 / 118, "cm"), (1 / 28.3, "cm")],
)
def test_resolutions_of_print_are_no_sizes(size, unit):
    assert calibrated(size, size, unit) == Metadata()


@pytest.mark.parametrize("junk", [None, "", "x", float("nan"), -5, 0, 1e99, [], {}])
def test_senseless_facts_are_left_out(junk):
    found = calibrated(1, 1, "nm", voltage=junk, dwell_time=junk, other={"a": junk})
    assert (found.voltage, found.dwell_time) == (None, None)
    assert found.pixel_size == 1


def test_texts_are_one_printable_line():
    found = calibrated(1, 1, "nm", detector=" HAADF\n\x1b[31m ", other={"x": "a\tb" * 999})
    assert found.detector == "HAADF [31m"
    assert len(found.other["x"]) <= 200
    assert found.other["x"].isprintable()


def test_each_fact_is_the_first_that_is_known():
    found = first_of(
        Metadata(None, None, "HAADF", other={"a": 1}),
        Metadata(1.0, "nm", "BF", 200.0, other={"a": 2, "b": 3}),
        Metadata(5.0, "um", dwell_time=1e-6),
    )
    assert found == Metadata(1.0, "nm", "HAADF", 200.0, 1e-6, {"a": 1, "b": 3})
    assert hash(found) == hash(first_of(found))


@pytest.mark.parametrize("name", ["voltage", "dwell_time"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_metadata_refuse_senseless_facts(name, value):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        Metadata(**{name: value})
