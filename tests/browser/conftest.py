"""A browser that reaches no other host, the built book by file and by http, and a count."""

import functools
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

HTML = Path(__file__).parents[2] / "_build" / "html"
PAGES = sorted(
    str(path.relative_to(HTML))
    for folder in (HTML, HTML / "api")
    for path in folder.glob("*.html")
    if path.name != "index.html"
)
HERE = Path(__file__).parent

counts: Counter[str] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands in this folder, so that it runs when asked for only."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each built page to the tests that take one; none is a failure of its own."""
    if "page_name" in metafunc.fixturenames:
        metafunc.parametrize("page_name", PAGES)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that asked, if several share the tests."""
    if output := getattr(session.config, "workeroutput", None):
        output["browser"] = dict(counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what one of several processes counted."""
    counts.update(getattr(node, "workeroutput", {}).get("browser", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what the browser saw."""
    if counts["pages"]:
        terminalreporter.write_line(
            f"browser: {counts['pages']} pages in {counts['views']} views, "
            f"{counts['requests']} requests, {counts['outer']} to other hosts, "
            f"{counts['errors']} errors, {counts['sliders']} sliders moved"
        )


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not log its requests."""

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="session")
def addresses() -> Iterator[dict[str, str]]:
    """Return where the book is, as files and from a server."""
    if not PAGES:
        pytest.fail(f"there are no pages in {HTML}: run `make book` first", pytrace=False)
    serve = functools.partial(Quiet, directory=str(HTML))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"file": HTML.as_uri(), "http": f"http://127.0.0.1:{server.server_port}"}
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Return Chromium, for which no name but this machine's resolves."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail(
            "tests/browser needs Chromium: install it by `apt-get install chromium`",
            pytrace=False,
        )
    with sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        yield chromium
        chromium.close()
