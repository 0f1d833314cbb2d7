"""The manifest is valid, and what it names exists."""

from npe2 import PluginManifest

import emdn_napari
from emdn.io import is_readable


def test_the_manifest_is_valid_and_its_commands_can_be_imported():
    manifest = PluginManifest.from_distribution("emdn-napari")
    manifest.validate_imports()
    assert {each.id for each in manifest.contributions.commands} == {
        "emdn-napari.denoise",
        "emdn-napari.read",
    }


def test_emdn_reads_every_pattern_of_the_reader():
    manifest = PluginManifest.from_distribution(emdn_napari.__name__.replace("_", "-"))
    (reader,) = manifest.contributions.readers
    for pattern in reader.filename_patterns:
        assert is_readable(pattern.replace("*", "a")), pattern
