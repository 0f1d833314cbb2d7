"""The committed notebooks are the chapters, in Markdown that any notebook shows."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MYST = re.compile(r"\{[a-z:]+\}`|^\([\w-]+\)=$|^:{3,}|^`{3,}\{", re.M)


@pytest.fixture(scope="module")
def make_notebooks():
    """Return the script that writes the notebooks, as a module."""
    path = ROOT / "book" / "make_notebooks.py"
    spec = importlib.util.spec_from_file_location("make_notebooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_notebooks_are_those_of_the_chapters(make_notebooks):
    expected = make_notebooks.notebooks()
    assert sorted(expected) == [path.stem for path in NOTEBOOKS], "run `make notebooks`"
    for path in NOTEBOOKS:
        assert path.read_text("utf-8") == expected[path.stem], "run `make notebooks`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_plain(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^```.*?^```$", "", cell.source, flags=re.M | re.S)
            assert not MYST.search(prose)
        else:
            assert cell.outputs == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_to_notebooks(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells)
    linked = set(re.findall(r"\]\(([^)#:]+\.ipynb)\)", text))
    assert linked <= {each.name for each in NOTEBOOKS}


CHAPTER = """\
(first)=
# A chapter

Counts {eq}`law` of {term}`dose <dose>` by {cite:t}`ede2019` {cite:p}`ede2019,chollet2017`,
in {func}`~emdn.noise.add_shot_noise`, {ref}`elsewhere <first>` and {numref}`fig-first`.

$$ a = b. $$ (law)

```bash
echo "{ref}`left alone`"
```

```{warning}
Two
lines.
```

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-first
    caption: |
      What is seen.
---
1 + 1
```

```{exercise-start}
:label: ex-first
```
Guess.
```{exercise-end}
```

```{solution-start} ex-first
:class: dropdown
```
This:

```{code-cell} ipython3
2 + 2
```
```{solution-end}
```
"""


def converted(make_notebooks, url=""):
    book = make_notebooks.read_book({"first": CHAPTER})
    return make_notebooks.convert("first", CHAPTER, book, url, "main").cells


def test_each_construct_has_its_plain_form(make_notebooks):
    text, _, code, rest, answer, solution, references = converted(make_notebooks)
    assert text.source.startswith("# A chapter\n")
    assert "Counts (1) of dose by Ede and Beanland (2019)" in text.source
    assert "(Ede and Beanland, 2019; Chollet, 2017)" in text.source
    assert "in `add_shot_noise`, [elsewhere](first.ipynb) and Figure 1." in text.source
    assert "$$ a = b. \\tag{1} $$" in text.source
    assert "{ref}`left alone`" in text.source
    assert "> **Warning**\n>\n> Two\n> lines." in text.source
    assert code.source == "1 + 1"
    assert rest.source == "**Figure 1.** What is seen.\n\n### Exercise 1\n\nGuess."
    assert answer.source == "# Your answer:"
    assert re.fullmatch(
        r"<details>\n<summary>Solution of exercise 1</summary>\n\n"
        r"This:\n\n```python\n2 \+ 2\n```\n\n</details>",
        solution.source,
    )
    assert references.source.count("\n- ") == 2


def test_the_first_code_installs_emdn_only_where_it_is_missing(make_notebooks):
    url = "https://github.com/someone/emdn"
    with_address, without = (
        converted(make_notebooks, address)[1].source for address in (url, "")
    )
    assert f"git+{url}@main" in with_address
    assert "%pip" not in without
    exec(without, {})  # emdn is here, so that it does nothing


@pytest.mark.parametrize("role", ["ref", "numref", "eq", "cite:p"])
def test_a_label_that_no_page_has_is_an_error(make_notebooks, role):
    source = f"# A\n\nSee {{{role}}}`nowhere`.\n\n```{{code-cell}}\n1\n```\n"
    book = make_notebooks.read_book({"page": source})
    with pytest.raises(ValueError, match=r"book/page.md: no page .* has 'nowhere'"):
        make_notebooks.convert("page", source, book, "", "main")


def test_an_unknown_directive_is_an_error_that_names_the_page(make_notebooks):
    source = "# A\n\n```{mermaid}\nx\n```\n\n```{code-cell}\n1\n```\n"
    book = make_notebooks.read_book({"page": source})
    with pytest.raises(ValueError, match=r"book/page.md: the directive \{mermaid\}"):
        make_notebooks.convert("page", source, book, "", "main")
