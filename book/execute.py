"""Execute the chapters that Jupyter Book's cache does not hold, several at a time.

Jupyter Book itself executes one after another. It then finds all results in its cache, and
executes again what failed here, to report it.
"""

import logging
from pathlib import Path

import yaml
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from make_notebooks import BOOK, ROOT, is_chapter, page_names

READER = {"name": "myst_nb_md", "type": "plugin"}  # the one of Jupyter Book


def main(cache_path: Path) -> None:
    """Execute each chapter whose code the cache does not hold, one for each processor."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]
    cache = get_cache(cache_path)
    for path in (BOOK / f"{name}.md" for name in page_names()):
        if is_chapter(path.read_text("utf-8")):
            cache.add_nb_to_project(str(path), read_data=READER)
    logger = logging.getLogger(__name__)
    logger.setLevel(logging.INFO)  # at which the executor names each chapter that is done
    executor = load_executor("local-parallel", cache, logger=logger)
    executor.run_and_cache(timeout=settings["timeout"])


if __name__ == "__main__":
    main(ROOT / "_build" / ".jupyter_cache")
