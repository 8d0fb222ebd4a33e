# make table1   Table 1 from raw images    make tables   all tables     make setup   the environment
# make test     the tests                  make lint     ruff and mypy  make lock    pin the dependencies
# make develop  the environment, with what tests and lint need
# make test-fast     those that take no program, figure or long search: not what is marked slow (tests/conftest.py)
# make wheel    sdist and wheel, each tried in an environment that holds nothing else (docs/installing.md)
# make image    the container image that jobs can run in; VARIANT=cuda: for GPUs (docs/containers.md)
# make mnist-small     MNIST, and
# make cifar10-small   CIFAR-10, with small networks on two cores (docs/results.md)
# make docs     docs/ as a site, in build/site
# make results  of results/tables, what README and docs/results.md say: their numbers, and the files that these are of
# make schema   config/schema.json and docs/parameters.md, after an edit of the types of params.yaml
# make bench    throughput of sampling and training, nearest neighbours, what stopping rules cost: ten minutes
SHELL := /bin/bash
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
PYTHON ?= python3

.PHONY: setup develop table1 tables test test-fast lint docs results schema bench lock wheel image test-apptainer test-slurm mnist-small cifar10-small

setup: .venv/.installed
develop: .venv/.developed

# uv installs, apart from what it installs; the locks hold exact versions and hashes.
UV := VIRTUAL_ENV=.venv .venv/uv/bin/uv pip install --quiet
EDITABLE := $(UV) --no-deps --editable .

.venv/.installed: requirements.lock pyproject.toml .venv/uv/bin/uv
	@echo "Installing requirements.lock into .venv: on Linux 6.4 GB, 5 of them torch's libraries for NVIDIA GPUs"
	@echo "(docs/installing.md: how to do without)"
	@$(UV) --compile-bytecode --require-hashes --requirement requirements.lock && $(EDITABLE)
	@touch $@

.venv/.developed: requirements-dev.lock .venv/.installed
	@$(UV) --compile-bytecode --require-hashes --requirement requirements-dev.lock
	@touch $@

.venv/uv/bin/uv: containers/installer.lock
	@$(PYTHON) -c 'import sys; found = sys.version_info[:2]; sys.exit(None if (3, 11) <= found <= (3, 13) else \
	  "$(PYTHON) is Python {}.{}; must be 3.11 to 3.13: make setup PYTHON=python3.12".format(*found))'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade --target .venv/uv \
	  --require-hashes --requirement containers/installer.lock
	@touch $@

# One line, how far it is; what Snakemake says is in logs/runs.
RUN := python workflow/progress.py snakemake

table1: setup
	$(RUN) --cores all results/table1.md

tables: setup
	$(RUN) --cores all

test: develop
	pytest --numprocesses auto

test-fast: develop
	pytest --numprocesses auto -m 'not slow'

# In a folder of its own, so that it stands beside what params.yaml asks for. SOURCE=PATH: a local copy of the images.
mnist-small cifar10-small: setup
	mkdir -p runs/$@ && ln -sfn $(CURDIR)/config runs/$@/config
	sed 's|source: null|source: $(or $(abspath $(SOURCE)),null)|' examples/$@.yaml >runs/$@/params.yaml
	$(RUN) --snakefile Snakefile --directory runs/$@ --cores all results/$(@:-small=).md

lint: develop
	ruff check .
	ruff format --check .
	mypy

# The build says that the theme's authors go on in another program: not to be repeated each time.
docs: develop
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet

results: develop
	python -m certsmooth.report.results_page results/tables

schema: develop
	python -m certsmooth.experiment.schema

bench: develop
	python benchmarks/sampling.py --rounds 1
	python benchmarks/training.py --rounds 1
	python benchmarks/neighbours.py
	python benchmarks/semi_elastic.py
	python benchmarks/shards.py --rounds 1
	python benchmarks/certificates.py
	python benchmarks/stopping.py --rounds 1
	[ ! -d ../shared/reference ] || python benchmarks/sequential.py

# The wheel is built from the sdist; that one is installed too, as pip does where there is no wheel.
wheel: .venv/uv/bin/uv
	rm -rf build
	.venv/uv/bin/uv build --quiet --out-dir build/dist
	@for each in build/dist/*.whl build/dist/*.tar.gz; do \
	  .venv/uv/bin/uv venv --quiet --clear --python $(PYTHON) build/bare && \
	  VIRTUAL_ENV=build/bare .venv/uv/bin/uv pip install --quiet --constraint requirements.lock $$each && \
	  build/bare/bin/python tests/bare.py || exit 1; \
	done
	@rm -rf build/bare

VARIANT ?= cpu

# APPTAINER_BUILD: further options of `apptainer build`.
image:
	containers/build.sh $(VARIANT) $(APPTAINER_BUILD)

# SIGINT, so that the daemons are stopped.
test-slurm: develop
	timeout --signal INT --kill-after 90 1200 pytest -m slurm tests/cluster/test_slurm.py

test-apptainer: develop
	pytest -m apptainer tests/cluster/test_apptainer.py

LOCK := .venv/uv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url

# Of what development needs: the part that the workflow needs, and the part that jobs need, which the image gets; and uv.
lock: .venv/uv/bin/uv
	$(LOCK) --extra workflow --extra slurm --extra s3 --extra timm --group dev pyproject.toml --output-file requirements-dev.lock
	$(LOCK) --constraints requirements-dev.lock --extra workflow --extra slurm --extra s3 pyproject.toml \
	  --output-file requirements.lock
	$(LOCK) --constraints requirements-dev.lock --extra attacks --extra data --extra tables pyproject.toml \
	  --output-file containers/requirements.lock
	echo uv | $(LOCK) - --output-file containers/installer.lock
