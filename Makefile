# `make notebooks` writes the chapters as plain notebooks, `make notebooks-run` runs those.
# `make book` builds the executed book and `make browser` opens each of its pages without the
# internet; `make test` runs all other tests, `make quick` most of them.
# `make hosts` runs the recipes for other programs, `make package` what would be published.
# Each first makes the environment .venv from requirements.lock, once.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
# The execution cache of Jupyter Book knows a chapter's text but not what it imports and reads.
CODE := $(shell find emdn -type f ! -name '*.pyc' | sort | xargs cat requirements.lock _config.yml | sha256sum | cut -c1-16)

export UV_PYTHON_DOWNLOADS = never
export TF_CPP_MIN_LOG_LEVEL = 3

.PHONY: book serve browser notebooks notebooks-run test quick check hosts package lock clean

book: $(READY)
	@test "$$(cat _build/.code 2>/dev/null)" = "$(CODE)" || rm -rf _build
	@mkdir -p _build && echo $(CODE) > _build/.code
	rm -rf _build/html
	PATH="$(BIN):$$PATH" $(BIN)/python book/execute.py
	PATH="$(BIN):$$PATH" $(BIN)/jupyter-book build book --config _config.yml \
		--toc "$(CURDIR)/_toc.yml" --path-output . -W -n --keep-going
	@echo "The book is ready: open $(CURDIR)/_build/html/intro.html"

serve:
	@echo "The book is at http://localhost:8000/intro.html; Ctrl-C ends it."
	@$(PYTHON) -m http.server --bind 127.0.0.1 --directory _build/html 8000

notebooks: $(READY)
	$(BIN)/python book/make_notebooks.py

notebooks-run: $(READY)
	.ci/notebooks

browser: $(READY)
	$(BIN)/python -m pytest -q -n auto -m browser tests/browser

test: $(READY)
	MPLBACKEND=Agg $(BIN)/python -m pytest -n auto --dist loadfile

quick: $(READY)
	MPLBACKEND=Agg $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not browser" tests

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

hosts: $(READY)
	.ci/hosts

package: $(READY)
	.ci/package

lock:
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --extra dev -o requirements.lock pyproject.toml

clean:
	rm -rf _build $(VENV)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --no-deps -e .
	@touch $@
