"""What the theme leaves undone: descriptions, notebooks to download, launch buttons.

Pages are also rid of the theme's preloaded fonts, which a browser refuses with an error
where a page is opened as a file.

The address of the repository is `project_url` in `_config.yml`. As long as it is empty
there are no launch buttons, since there is nothing that they could open.
"""

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from docutils import nodes
from sphinx.application import Sphinx

PRELOADED_FONT = re.compile(r'\s*<link rel="preload" as="font"[^>]*>')
DESCRIPTION_LENGTH = 155  # characters of a description that search engines show


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the events and the settings."""
    app.add_config_value("project_url", "", "html")
    app.add_config_value("project_branch", "main", "html")
    app.add_config_value("hub_url", "", "html")
    app.add_config_value("notebooks_path", "../notebooks", "html")
    app.connect("html-page-context", add_description)
    # After the theme's own buttons, which are at 501.
    app.connect("html-page-context", add_buttons, priority=502)
    app.connect("build-finished", copy_notebooks)
    app.connect("build-finished", drop_preloaded_fonts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_description(
    app: Sphinx,  # noqa: ARG001 - Sphinx passes all five
    pagename: str,  # noqa: ARG001
    templatename: str,  # noqa: ARG001
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Describe a page by its first paragraph, for search engines and previews."""
    if doctree is None:
        return
    text = next(
        (
            paragraph.astext()
            for paragraph in doctree.findall(nodes.paragraph)
            if isinstance(paragraph.parent, nodes.section)
        ),
        "",
    )
    words = " ".join(text.split())
    if len(words) > DESCRIPTION_LENGTH:
        words = words[:DESCRIPTION_LENGTH].rsplit(" ", 1)[0] + " …"
    if words:
        content = words.replace("&", "&amp;").replace('"', "&quot;")
        context["metatags"] += f'\n<meta name="description" content="{content}" />'


def notebooks(app: Sphinx) -> Path:
    """Return the folder of the plain notebooks."""
    return (Path(app.srcdir) / app.config.notebooks_path).resolve()


def add_buttons(
    app: Sphinx,
    pagename: str,
    templatename: str,  # noqa: ARG001
    context: dict[str, Any],
    doctree: nodes.document | None,  # noqa: ARG001
) -> None:
    """Offer a page's notebook for download, and on machines of others."""
    name = f"{pagename}.ipynb"
    if not (notebooks(app) / name).exists():
        return
    download = {
        "type": "link",
        "url": f"{context['pathto']('notebooks', 1)}/{name}",
        "text": ".ipynb",
        "icon": "fas fa-code",
        "tooltip": "Download as a notebook",
        "label": "download-notebook-button",
    }
    for button in context["header_buttons"]:
        if button.get("label") == "download-buttons":
            button["buttons"].insert(0, download)
    links = launch_links(
        app.config.project_url, app.config.project_branch, app.config.hub_url, name
    )
    if links:
        context["header_buttons"].insert(
            0,
            {
                "type": "group",
                "tooltip": "Run this page",
                "icon": "fas fa-rocket",
                "label": "launch-buttons",
                "buttons": [
                    {"type": "link", "text": text, "tooltip": f"Open in {text}", "url": url}
                    | {"icon": "fas fa-play", "label": f"launch-{text.lower()}"}
                    for text, url in links.items()
                ],
            },
        )


def launch_links(project_url: str, branch: str, hub_url: str, name: str) -> dict[str, str]:
    """Return where a notebook of the repository can be run, by the name of the service.

    Colab opens repositories of GitHub only; Binder and a JupyterHub with nbgitpuller open
    any. Without an address of the repository there are no links.
    """
    project = project_url.rstrip("/").removesuffix(".git")
    if not project:
        return {}
    links = {}
    path = f"notebooks/{name}"
    on_github = project.removeprefix("https://github.com/")
    if on_github != project:
        links["Colab"] = (
            f"https://colab.research.google.com/github/{on_github}/blob/{branch}/{path}"
        )
        binder = f"gh/{on_github}"
    else:
        binder = f"git/{quote(project, safe='')}"
    links["Binder"] = f"https://mybinder.org/v2/{binder}/{branch}?urlpath=lab/tree/{path}"
    if hub_url:
        repository = project.rsplit("/", 1)[-1]
        query = urlencode(
            {"repo": project, "branch": branch, "urlpath": f"lab/tree/{repository}/{path}"}
        )
        links["JupyterHub"] = f"{hub_url.rstrip('/')}/hub/user-redirect/git-pull?{query}"
    return links


def copy_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put the notebooks of the built pages beside them."""
    if exception is not None or app.builder.format != "html":
        return
    target = Path(app.outdir) / "notebooks"
    target.mkdir(exist_ok=True)
    for path in sorted(notebooks(app).glob("*.ipynb")):
        if path.stem in app.env.found_docs:
            shutil.copy(path, target)


def drop_preloaded_fonts(app: Sphinx, exception: Exception | None) -> None:
    """Remove the hints to load fonts early; the style sheets load them all the same."""
    if exception is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).glob("**/*.html"):
        text = path.read_text(encoding="utf-8")
        if PRELOADED_FONT.search(text):
            path.write_text(PRELOADED_FONT.sub("", text), encoding="utf-8")
