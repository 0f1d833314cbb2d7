"""Write each chapter as a plain notebook, without outputs, into `notebooks/`.

The chapters are MyST: roles, directives and labels that Sphinx understands and a notebook
shows as they are typed. Here they become Markdown. `make notebooks` runs this script, and
`tests/test_notebooks.py` compares what it would write with what is committed.
"""

import base64
import mimetypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from pybtex.database import BibliographyData, Entry, Person, parse_file
from pybtex.richtext import Text

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
NOTEBOOKS = ROOT / "notebooks"
EXTRAS = "baselines,cluster,plot,train"  # what the chapters import besides emdn itself
# Tags of cells whose code a notebook folds.
HIDING = frozenset({"hide-input", "remove-input", "remove-cell"})
ADMONITIONS = ("note", "tip", "hint", "warning", "important", "caution", "seealso")

LABEL = re.compile(r"^\(([\w-]+)\)=\s*$")
HEADING = re.compile(r"^#+\s+(.*)$")
ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
EQUATION = re.compile(r"\$\$(.+?)\$\$[ ]*\(([\w-]+)\)", re.S)
FENCE = re.compile(r"^(`{3,}|:{3,})(?:\{([\w:-]+)\}(.*))?")
OPTION = re.compile(r"^:([\w-]+):\s*(.*)$")


@dataclass
class Book:
    """What a page says of another: where labels are, and their numbers.

    Parameters
    ----------
    titles : dict of str to str
        Title of the page or section under each label, and of each page by its name.
    pages : dict of str to str
        Name of the page that holds each label, for pages that are notebooks.
    numbers : dict of str to int
        Number of each figure, equation and exercise by its label.
    works : BibliographyData
        What the chapters cite.
    """

    titles: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    works: BibliographyData = field(default_factory=BibliographyData)


def main() -> None:
    """Write all notebooks, and remove those of chapters that are gone."""
    NOTEBOOKS.mkdir(exist_ok=True)
    written = notebooks()
    for path in NOTEBOOKS.glob("*.ipynb"):
        if path.stem not in written:
            path.unlink()
    for name, text in written.items():
        (NOTEBOOKS / f"{name}.ipynb").write_text(text, encoding="utf-8")


def notebooks() -> dict[str, str]:
    """Return the text of each chapter's notebook, by the chapter's name."""
    sources = {name: (BOOK / f"{name}.md").read_text("utf-8") for name in page_names()}
    book = read_book(sources)
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    return {
        name: nbformat.writes(
            convert(name, source, book, settings["project_url"], settings["project_branch"])
        )
        + "\n"
        for name, source in sources.items()
        if is_chapter(source)
    }


def page_names() -> list[str]:
    """Return the names of the book's pages, in their order."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [contents["root"], *listed(contents["parts"])]


def listed(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the files of parts of a table of contents, and of what is below each."""
    for entry in entries:
        if "file" in entry:
            yield entry["file"]
        yield from listed(entry.get("chapters", []) + entry.get("sections", []))


def is_chapter(source: str) -> bool:
    """Whether a page has code to run."""
    return "```{code-cell}" in source


def read_book(sources: dict[str, str]) -> Book:
    """Find titles, and number figures, equations and exercises, as Sphinx does."""
    book = Book(works=parse_file(BOOK / "references.bib"))
    counts = {"figure": 0, "equation": 0, "exercise": 0}

    def number(kind: str, label: str | None) -> None:
        counts[kind] += 1
        if label:
            book.numbers[label] = counts[kind]

    for name, source in sources.items():
        labels: list[str] = []
        for cell in jupytext.reads(source, fmt="md:myst").cells:
            if cell.cell_type == "code":
                figure = cell.metadata.get("mystnb", {}).get("figure", {})
                if figure.get("caption"):
                    number("figure", figure.get("name"))
                continue
            for kind, argument, options, body in blocks(cell.source):
                if kind == "exercise-start":
                    number("exercise", options.get("label"))
                elif kind == "figure":
                    number("figure", options.get("name"))
                elif kind == "" and not argument:
                    for line in body.splitlines():
                        if label := LABEL.match(line):
                            labels.append(label[1])
                        elif heading := HEADING.match(line):
                            title = re.sub(r"[`*]", "", heading[1])
                            book.titles.setdefault(name, title)
                            book.titles |= dict.fromkeys(labels, title)
                            if is_chapter(source):
                                book.pages |= dict.fromkeys([name, *labels], name)
                            labels = []
                    for _, label in EQUATION.findall(body):
                        number("equation", label)
    return book


def blocks(text: str) -> Iterator[tuple[str, str, dict[str, str], str]]:
    """Split Markdown into directives, other fences and the text between them.

    Yields
    ------
    kind, argument, options, body
        The name of a directive; "" for text, with an empty argument, and for fenced code,
        whose argument is its opening line.
    """
    lines, plain = iter(text.splitlines()), []
    for line in lines:
        fence = FENCE.match(line)
        if not fence:
            plain.append(line)
            continue
        if plain:
            yield "", "", {}, "\n".join(plain)
            plain = []
        body: list[str] = []
        for inner in lines:
            if inner.strip() == fence[1]:
                break
            body.append(inner)
        if fence[2] is None:
            yield "", line, {}, "\n".join(body)
            continue
        options = {}
        while body and (option := OPTION.match(body[0])):
            options[option[1]] = option[2]
            body.pop(0)
        yield fence[2], (fence[3] or "").strip(), options, "\n".join(body).strip("\n")
    if plain:
        yield "", "", {}, "\n".join(plain)


class Notebook:
    """The cells of a notebook that is being written.

    Text is gathered into one cell until code follows. Between the start and the end of a
    solution everything, code too, is gathered into what unfolds on a click.

    Parameters
    ----------
    name : str
        Name of the page.
    book : Book
        What the page can refer to.
    """

    def __init__(self, name: str, book: Book) -> None:
        self.name = name
        self.book = book
        self.cells: list[nbformat.NotebookNode] = []
        self.cited: list[str] = []
        self._text: list[str] = []
        self._attachments: dict[str, dict[str, str]] = {}
        self._in_solution = False

    def add_text(self, text: str) -> None:
        """Add Markdown as it is."""
        if text.strip():
            self._text.append(text.strip("\n"))

    def add_code(self, source: str, *, hidden: bool = False) -> None:
        """Add code as a cell of its own, or as text within a solution."""
        if self._in_solution:
            self.add_text(f"```python\n{source}\n```")
            return
        self.end_text()
        cell = nbformat.v4.new_code_cell(source, id=f"{self.name}-{len(self.cells)}"[:64])
        if hidden:
            cell.metadata["jupyter"] = {"source_hidden": True}
        self.cells.append(cell)

    def end_text(self) -> None:
        """Make a cell of the text so far."""
        if not self._text:
            return
        cell = nbformat.v4.new_markdown_cell(
            "\n\n".join(self._text), id=f"{self.name}-{len(self.cells)}"[:64]
        )
        if self._attachments:
            cell["attachments"] = self._attachments
        self.cells.append(cell)
        self._text, self._attachments = [], {}

    def add_markdown(self, text: str) -> None:
        """Add MyST, turned into Markdown."""
        for kind, argument, options, body in blocks(text):
            if kind == "" and argument:
                self.add_text(f"{argument}\n{body}\n```")
            elif kind == "":
                self.add_text(self.plain(body))
            elif kind == "exercise-start":
                label = options.get("label", "")
                self.add_text(f"### Exercise {self.known(self.book.numbers, label)}")
            elif kind == "exercise-end":
                self.add_code("# Your answer:")
            elif kind == "solution-start":
                self.end_text()
                self._in_solution = True
                number = self.known(self.book.numbers, argument)
                self.add_text(
                    f"<details>\n<summary>Solution of exercise {number}</summary>"
                )
            elif kind == "solution-end":
                self.add_text("</details>")
                self._in_solution = False
                self.end_text()
            elif kind in ADMONITIONS:
                words = f"**{kind.capitalize()}**\n\n{self.plain(body)}"
                self.add_text(
                    "\n".join(f"> {line}".rstrip() for line in words.splitlines())
                )
            elif kind == "include":
                self.add_markdown((BOOK / argument).read_text("utf-8"))
            elif kind == "figure":
                self.add_figure(BOOK / argument, options, body)
            else:
                raise ValueError(
                    f"book/{self.name}.md: the directive {{{kind}}} has no form in a "
                    "notebook; add one to book/make_notebooks.py"
                )

    def add_figure(self, path: Path, options: dict[str, str], caption: str) -> None:
        """Add a picture that the notebook carries with it."""
        kind = mimetypes.guess_type(path.name)[0] or "image/png"
        data = base64.b64encode(path.read_bytes()).decode()
        self._attachments[path.name] = {kind: data}
        self.add_text(f"![{options.get('alt', '')}](attachment:{path.name})")
        self.add_caption(options.get("name", ""), caption)

    def add_caption(self, label: str, caption: str) -> None:
        """Add what a figure shows, under its number."""
        number = self.book.numbers.get(label)
        heading = "**Figure.**" if number is None else f"**Figure {number}.**"
        self.add_text(f"{heading} {self.plain(caption.strip())}")

    def plain(self, text: str) -> str:
        """Return text without labels, with numbered equations, and without roles."""
        lines = [line for line in text.splitlines() if not LABEL.match(line)]
        numbered = EQUATION.sub(self.equation, "\n".join(lines))
        return ROLE.sub(self.spelled, numbered)

    def equation(self, match: re.Match[str]) -> str:
        """Return an equation with its number."""
        number = self.known(self.book.numbers, match[2])
        return f"$${match[1].rstrip()} \\tag{{{number}}} $$"

    def spelled(self, match: re.Match[str]) -> str:
        """Return what a role says, as Markdown."""
        role, content = match[1], match[2]
        explicit = re.fullmatch(r"(.+?)\s*<(.+)>", content, re.S)
        words, target = (explicit[1], explicit[2]) if explicit else ("", content)
        if role in ("ref", "doc"):
            words = words or self.known(self.book.titles, target)
            page = self.book.pages.get(target)
            return f"[{words}]({page}.ipynb)" if page else f"*{words}*"
        if role == "numref":
            return f"Figure {self.known(self.book.numbers, target)}"
        if role == "eq":
            return f"({self.known(self.book.numbers, target)})"
        if role == "term":
            return words or target
        if role.startswith("cite:"):
            return self.citation(role, content)
        if role in ("func", "class", "meth", "mod", "attr", "data", "exc", "py:obj"):
            short = target.rsplit(".", 1)[-1] if target.startswith("~") else target
            return f"`{words or short}`"
        raise ValueError(
            f"book/{self.name}.md: the role {{{role}}} has no form in a notebook; "
            "add one to book/make_notebooks.py"
        )

    def known(self, labels: Mapping[str, Any], label: str) -> Any:
        """Return what a label stands for; a label of no page is an error."""
        if label not in labels:
            raise ValueError(f"book/{self.name}.md: no page of _toc.yml has {label!r}")
        return labels[label]

    def citation(self, role: str, keys: str) -> str:
        """Return authors and years, in brackets for {cite:p}."""
        works = []
        for key in (key.strip() for key in keys.split(",")):
            if key not in self.cited:
                self.cited.append(key)
            entry = self.known(self.book.works.entries, key)
            names, year = authors(entry), entry.fields.get("year", "no year")
            works.append(f"{names}, {year}" if role == "cite:p" else f"{names} ({year})")
        return f"({'; '.join(works)})" if role == "cite:p" else ", ".join(works)


def convert(
    name: str, source: str, book: Book, project_url: str, branch: str
) -> nbformat.NotebookNode:
    """Return a chapter as a notebook of plain Markdown and code."""
    notebook = Notebook(name, book)
    installed = False
    for cell in jupytext.reads(source, fmt="md:myst").cells:
        if cell.cell_type == "markdown":
            notebook.add_markdown(cell.source)
            continue
        if not installed:
            notebook.add_code(install(project_url, branch))
            installed = True
        tags = cell.metadata.get("tags", [])
        hidden = not HIDING.isdisjoint(tags)
        notebook.add_code(cell.source, hidden=hidden)
        if uses_accelerators(cell.source):
            notebook.add_code(ACCELERATORS)
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if figure.get("caption"):
            notebook.add_caption(figure.get("name", ""), figure["caption"])
    if notebook.cited:
        notebook.add_text("## References of this chapter")
        works = [reference(book.works.entries[key]) for key in notebook.cited]
        notebook.add_text("\n".join(f"- {work}" for work in works))
    notebook.end_text()
    return nbformat.v4.new_notebook(
        cells=notebook.cells,
        metadata={
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        },
    )


def install(project_url: str, branch: str) -> str:
    """Return code that installs emdn where it is missing, and does nothing elsewhere."""
    if project_url:
        repository = project_url.rstrip("/")
        package = f'"emdn[{EXTRAS}] @ git+{repository}@{branch}"'
        action = f"    %pip install -q {package}"
    else:
        action = (
            "    raise ModuleNotFoundError(\n"
            '        "emdn is not installed here. In a copy of its repository, run: "\n'
            f"        \"pip install '.[{EXTRAS}]'\"\n"
            "    )"
        )
    return (
        "# This cell acts only where emdn is missing, such as on Colab.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("emdn") is None:\n'
        f"{action}"
    )


ACCELERATORS = """\
import tensorflow as tf

gpus = tf.config.list_physical_devices("GPU")
print(
    f"TensorFlow found {len(gpus)} GPUs."
    if gpus
    else "TensorFlow found no GPU. The cells below run on the processor, and take longer."
)"""


def uses_accelerators(source: str) -> bool:
    """Whether a cell imports what trains networks, which a GPU makes faster."""
    return bool(re.search(r"^(import tensorflow|import keras|from keras)", source, re.M))


def authors(entry: Entry) -> str:
    """Return the family names of a work's authors: one, two, or the first of more."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [family(person) for person in people]
    if not names:
        return plain_latex(entry.fields.get("title", "anonymous"))
    if len(names) > 2:
        return f"{names[0]} et al."
    return " and ".join(names)


def family(person: Person) -> str:
    """Return the family name of a person, without LaTeX."""
    return plain_latex(" ".join([*person.prelast_names, *person.last_names]))


def plain_latex(text: str) -> str:
    """Return text of a bibliography without its LaTeX."""
    return str(Text.from_latex(text))


def reference(entry: Entry) -> str:
    """Return one line that says where a work is found."""
    fields: Any = {name: plain_latex(value) for name, value in entry.fields.items()}
    place = next(
        (
            fields[name]
            for name in ("journal", "booktitle", "publisher", "howpublished")
            if name in fields
        ),
        "",
    )
    volume = " ".join(
        filter(None, [place, fields.get("volume", ""), fields.get("note", "")])
    )
    link = fields.get("url", "")
    if "doi" in fields:
        link = f"https://doi.org/{fields['doi']}"
    parts = [f"{authors(entry)} ({fields.get('year', 'no year')})", fields["title"], volume]
    return ". ".join(part.rstrip(".") for part in [*parts, link] if part)


if __name__ == "__main__":
    main()
