# make table1   Table 1 from raw images    make tables   all tables     make setup   the environment
# make test     the tests                  make lint     ruff and mypy  make lock    pin the dependencies
# make test-fast     those that take no program, figure or long search: not what is marked slow (tests/conftest.py)
# make image    the container image that jobs can run in; VARIANT=cuda: for GPUs (docs/containers.md)
# make results  of results/tables, what README and docs/results.md say: their numbers, and the files that these are of
# make schema   config/schema.json and docs/parameters.md, after an edit of the types of params.yaml
# make bench    throughput of sampling and training, the search for nearest neighbours, and what stopping rules cost
SHELL := /bin/bash
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
PYTHON ?= python3

.PHONY: setup table1 tables test test-fast lint results schema bench lock image test-apptainer test-slurm

setup: .venv/.installed

# uv where it exists, else venv and pip; the lock holds exact versions and hashes.
.venv/.installed: requirements.lock pyproject.toml
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv \
	  && VIRTUAL_ENV=.venv uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock \
	  && VIRTUAL_ENV=.venv uv pip install --quiet --no-deps --editable .; \
	else \
	  $(PYTHON) -m venv .venv \
	  && $(BIN)/pip install --quiet --require-hashes --requirement requirements.lock \
	  && $(BIN)/pip install --quiet --no-deps --editable .; \
	fi
	@touch $@

table1: setup
	snakemake --cores all results/table1.md

tables: setup
	snakemake --cores all

test: setup
	pytest --numprocesses auto

test-fast: setup
	pytest --numprocesses auto -m 'not slow'

lint: setup
	ruff check .
	ruff format --check .
	mypy

results: setup
	python -m certsmooth.report.results_page results/tables

schema: setup
	python -m certsmooth.experiment.schema

bench: setup
	python benchmarks/sampling.py
	python benchmarks/training.py
	python benchmarks/neighbours.py
	python benchmarks/semi_elastic.py
	python benchmarks/shards.py
	python benchmarks/certificates.py
	python benchmarks/stopping.py
	[ ! -d ../shared/reference ] || python benchmarks/sequential.py

VARIANT ?= cpu

# APPTAINER_BUILD: further options of `apptainer build`.
image:
	containers/build.sh $(VARIANT) $(APPTAINER_BUILD)

# SIGINT, so that the daemons are stopped.
test-slurm: setup
	timeout --signal INT --kill-after 90 1200 pytest -m slurm tests/cluster/test_slurm.py

test-apptainer: setup
	pytest -m apptainer tests/cluster/test_apptainer.py

LOCK := uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url

# The image gets the part that jobs need, at the same versions, and what installs it.
lock:
	$(LOCK) --extra workflow --extra slurm --extra s3 --extra page --group dev pyproject.toml --output-file requirements.lock
	$(LOCK) --constraints requirements.lock pyproject.toml --output-file containers/requirements.lock
	echo uv | $(LOCK) - --output-file containers/installer.lock
