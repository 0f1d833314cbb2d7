"""A package of bioimage.io is accepted, and run, by the library that reads them."""

import pytest
from typer.testing import CliRunner

from emdn.cli import app

# It needs an older pydantic than the lock holds; .ci/bridges installs both.
core = pytest.importorskip("bioimageio.core")


@pytest.mark.filterwarnings("default")  # those of libraries that are not ours
@pytest.mark.parametrize("name", ["auto", "compact", "low"])
def test_a_package_of_a_network_is_valid_and_computes_what_it_promises(name, tmp_path):
    """Its tests run the network on batches and sizes of several kinds."""
    target = tmp_path / f"{name}.zip"
    done = CliRunner().invoke(app, ["export", name, "--bioimageio", str(target)])
    assert done.exit_code == 0, done.output
    summary = core.test_model(target)
    assert summary.status == "passed", summary.format()
