# `make demo` and `make test` need Python 3.11 and nothing else: each makes the virtual environment itself.
PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test style install

# The main job on a spoken corpus made here: corpus, training, table, checkpoint opened in a fresh process.
demo: $(VENV)/installed
	$(VENV)/bin/python demo.py demo

test: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest

style: $(VENV)/installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), \"needs Python 3.11 or newer, got \" + sys.version"
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e ".[test,demo,plot]"
	touch $@
