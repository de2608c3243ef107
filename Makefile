# `make demo` and `make test` need Python 3.11 and nothing else: each makes the virtual environment itself.
PYTHON ?= python3
VENV ?= .venv
comma := ,

.PHONY: demo table test test-gpu test-versions common bench bench-scale gpu lint types docs style install lock fuzz

# The main job on a spoken corpus made here: corpus, training, table, checkpoint opened in a fresh process.
demo: $(VENV)/installed
	$(VENV)/bin/python examples/demo.py demo

# Every row of both papers on that corpus with small towers, to a finished report; goes on where it was stopped.
table: $(VENV)/installed
	$(VENV)/bin/python benchmarks/table.py table

# A file of tests at a time on every core, with one thread each.
test: lint types
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# What ruff finds, without changing a file.
lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# The documentation as a site in site/. Of the package it reads these files, without importing them.
docs: $(VENV)/docs
	rm -rf site .docs
	mkdir -p .docs/lemer
	ln -s $(CURDIR)/__init__.py $(CURDIR)/*_lemer.py $(CURDIR)/*_cross_modal.py .docs/lemer
	$(VENV)/bin/zensical build --clean --strict

$(VENV)/docs: setup.cfg constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e ".[docs]"
	touch $@

# The types of the public modules; pyproject.toml says which modules and rules.
types: $(VENV)/installed
	$(VENV)/bin/basedpyright --pythonpath $(VENV)/bin/python

# What holds on a CPU holds on a GPU, where there is one.
test-gpu: $(VENV)/installed
	LEMER_TEST_GPU=1 $(VENV)/bin/python -m pytest tests/travels/test_gpu.py

# What travels with a checkpoint, on the oldest version of transformers that is admitted, the first one that makes the towers'
# configurations by itself, and the newest. Each has an environment of its own, which finds all other packages in $(VENV).
test-versions: .versions/5.16.0/ready .versions/5.20.0/ready .versions/newest/ready
	for version in 5.16.0 5.20.0 newest; do \
		OMP_NUM_THREADS=1 .versions/$$version/bin/python -m pytest tests/travels tests/commands/test_export.py || exit 1; done

.versions/%/ready: setup.cfg constraints.txt | $(VENV)/installed
	rm -rf .versions/$*
	$(PYTHON) -m venv .versions/$*
	$(VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > \
		"$$(.versions/$*/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/zz_shared.pth"
	.versions/$*/bin/python -m pip install -q --upgrade "transformers$(if $(filter newest,$*),>=5.16$(comma)<6,==$*)"
	touch $@

# transformers' own tests of any model and processor, on ours. Its source distribution has them, the installed package not.
COMMON = .common/$(subst ==,-,$(shell grep ^transformers== constraints.txt))
common: $(VENV)/installed $(COMMON)/ready
	PYTHONPATH=$(COMMON):.common/libraries $(VENV)/bin/python -m pytest tests/common -o addopts=-q -rs \
		-W ignore::pytest.PytestUnknownMarkWarning

$(COMMON)/ready: constraints.txt | $(VENV)/installed
	$(VENV)/bin/python -m pip download -q --no-deps --no-binary transformers -c constraints.txt -d .common transformers
	tar -xzf $(COMMON).tar.gz -C .common
	touch $(COMMON)/tests/__init__.py
	$(VENV)/bin/python -m pip install -q --upgrade --target .common/libraries parameterized
	touch $@

# What it costs over the towers alone and over transformers' own: the machine has to be quiet.
bench: $(VENV)/installed .speechbrain/ready
	$(VENV)/bin/python -m lemer.benchmarks.speed

# What half an hour of a GPU is for: its tests, then the rows of `make bench`, the most important first. The table is written
# after every ratio. If a limit ends it, `make gpu ROWS=... OUTPUT=...` measures the rows that are left, in another folder.
# GPU_PYTHON is a Python that has every package; then nothing is installed.
ROWS ?= k,a,b,m,n,o,d,h,c,e,f,i,g,j,l
OUTPUT ?= benchmarks/results
gpu: $(if $(GPU_PYTHON),,$(VENV)/installed .speechbrain/ready)
	-LEMER_TEST_GPU=1 $(or $(GPU_PYTHON),$(VENV)/bin/python) -m pytest tests/travels/test_gpu.py
	$(or $(GPU_PYTHON),$(VENV)/bin/python) -m lemer.benchmarks.speed --rows $(ROWS) --output $(OUTPUT)

# What grows with the rows of a corpus, from 1,000 to a million; the first read of the largest takes most of the time.
bench-scale: $(VENV)/installed
	$(VENV)/bin/python -m lemer.benchmarks.scale

# The other side of row h, outside of the environment. torchaudio is there for its Python: the rest is of another torch.
.speechbrain/ready: | $(VENV)/installed
	$(VENV)/bin/python -m pip install -q --upgrade --no-deps --target .speechbrain speechbrain==1.1.2 torchaudio==2.11.0 \
		hyperpyyaml==1.2.3 ruamel.yaml==0.19.1 sentencepiece==0.2.3
	rm -f .speechbrain/torchaudio/lib/*.so
	touch $@

style: $(VENV)/installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

install: $(VENV)/installed

# The checkout is the package. pip's editable installation finds it by code that runs at import, which type checkers and
# editors do not see, and its strict mode hides new files. A link in the environment, lemer -> checkout, is seen by all.
define LINK_THE_PACKAGE
import os, sysconfig
link = os.path.join(sysconfig.get_path("purelib"), "lemer")
if os.path.islink(link):
    os.remove(link)
os.symlink(os.getcwd(), link)
endef
export LINK_THE_PACKAGE

EXTRAS = test demo media plot app onnx serve
TORCH = $(shell grep -o "^torch==[^ ]*" torch.lock)

# Which torch pip finds here, as requirements with hashes. That of PyPI, with its CUDA libraries, is in torch.lock. A build
# with a local version, such as 2.13.0+cpu, comes from a place of the machine's choice: its file must be the one that
# torch_builds.sha256 lists. A build that is not listed there is taken as it is, which is said.
define TORCH_REQUIREMENTS
import json, os, sys, urllib.parse
(found,) = json.load(open(sys.argv[1]))["install"]
version, url = found["metadata"]["version"], found["download_info"]["url"]
if "+" not in version:
    print(open("torch.lock").read())
    sys.exit()
name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
listed = dict(line.split()[::-1] for line in open("torch_builds.sha256"))
digest = found["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
if name not in listed:
    print(f"{name} is not in torch_builds.sha256, so nothing was compared. Got it from {url}: {digest}", file=sys.stderr)
digest = listed.get(name, digest)
print(f"torch=={version}" + (f" --hash=sha256:{digest}" if digest else ""))
endef
export TORCH_REQUIREMENTS

# requirements.lock has everything that the extras bring but torch, for every Python and system, with the SHA-256 of every
# file.
$(VENV)/installed: setup.cfg pyproject.toml requirements.lock torch.lock torch_builds.sha256
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), \"needs Python 3.11 or newer, got \" + sys.version"
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --no-deps --only-binary :all: --require-hashes -r requirements.lock
	$(VENV)/bin/python -m pip install -q --no-deps --dry-run --ignore-installed --report $(VENV)/torch.json $(TORCH)
	$(VENV)/bin/python -c "$$TORCH_REQUIREMENTS" $(VENV)/torch.json > $(VENV)/torch.txt
	$(VENV)/bin/python -m pip install -q --no-deps --only-binary :all: -r $(VENV)/torch.txt
	$(VENV)/bin/python -m pip install -q --no-deps --no-build-isolation -e .
	$(VENV)/bin/python -m pip check
	$(VENV)/bin/python -c "$$LINK_THE_PACKAGE"
	touch $@

# Renew both locks: the versions of constraints.txt, and the newest ones of what it does not name.
lock: | $(VENV)/installed
	$(VENV)/bin/python -m pip install -q --target .uv --upgrade uv==0.13.9
	.uv/bin/uv pip compile -q setup.cfg $(EXTRAS:%=--extra %) -c constraints.txt --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --no-emit-index-url -o .uv/all.lock --upgrade
	awk '/^[a-z]/ {file = /^(torch==|triton==|nvidia-|cuda-)/ ? "torch.lock" : "requirements.lock"} {print > file}' .uv/all.lock

# Damaged files of every kind that is read, EXAMPLES of each and other ones every time; the suite tries a few.
EXAMPLES ?= 1000
fuzz: $(VENV)/installed
	OMP_NUM_THREADS=1 LEMER_FUZZ=$(EXAMPLES) $(VENV)/bin/python -m pytest tests/fuzz
