# One line each over plain tools. The first call makes .venv and installs what the target needs.
PYTHON ?= python3
BIN := .venv/bin
SEEDS ?= 1000
MINUTES ?= 5
SEED ?= 1
MUTATIONS ?= 10000000

.PHONY: demo test engines check bench bench-plots bench-core sim docs chaos fuzz ecosystem clean

.venv/made: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[check]'
	touch $@

demo: .venv/made  ## analyse real files on a local cluster
	$(BIN)/python -m examples.demo

test: .venv/made  ## all tests, two files at a time
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

engines: .venv/made  ## tests on sshd, MPI, Slurm, Grid Engine, HTCondor, Ray, moto: installs them if it may, starts and ends each; see docs/CLUSTERS.md
	sh tests/engines/install.sh
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[engines]'
	$(BIN)/python -m pytest -q -m engine

check: .venv/made  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/made  ## side by side with the peers, each in a virtual environment of its own
	$(BIN)/python -m benchmarks

bench-plots: .venv/made  ## the curves of docs/SCALING.md, measured and drawn anew (about ten minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[plots]'
	$(BIN)/python -m benchmarks.scaling

bench-core: .venv/made  ## events a second of the two state machines and of the wire, without a cluster
	$(BIN)/python -m benchmarks.core_scheduler
	$(BIN)/python -m benchmarks.core_worker
	$(BIN)/python -m benchmarks.core_codec
	$(BIN)/python -m benchmarks.core_transfer

sim: .venv/made  ## deterministic simulation of the two state machines
	$(BIN)/python -m distributed.simulation --seeds $(SEEDS)

docs: .venv/made  ## draw docs/states.md from the tables of the state machines
	$(BIN)/python -m docs.states

chaos: .venv/made  ## a real cluster under kills, stops and scaling, with known results; see docs/CHAOS.md
	$(BIN)/python -m distributed.testing.chaos --minutes $(MINUTES) --seed $(SEED)

fuzz: .venv/made  ## changed bytes against all that reads bytes of peers: MUTATIONS (ten million take some ten minutes), SEED
	$(BIN)/python -m distributed.testing.fuzz --mutations $(MUTATIONS) --seed $(SEED)

.ecosystem-venv/made: pyproject.toml ecosystem/requirements.txt ecosystem/constraints.txt
	$(PYTHON) -m venv .ecosystem-venv
	.ecosystem-venv/bin/python -m pip install --quiet --disable-pip-version-check --editable . -r ecosystem/requirements.txt -c ecosystem/constraints.txt
	touch $@

.ecosystem-venv/older/made: pyproject.toml ecosystem/requirements-older.txt .ecosystem-venv/made
	$(PYTHON) -m venv .ecosystem-venv/older
	.ecosystem-venv/older/bin/python -m pip install --quiet --disable-pip-version-check --editable . -r ecosystem/requirements-older.txt
	touch $@

ecosystem: .ecosystem-venv/made .ecosystem-venv/older/made  ## other people's packages and their tests on this engine; see docs/ECOSYSTEM.md
	.ecosystem-venv/bin/python -m ecosystem $(ONLY)
	.ecosystem-venv/older/bin/python -m ecosystem --older

clean:
	rm -rf .venv .bench-venv .ecosystem-venv build *.egg-info
