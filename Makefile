# make study   set up, run the default study and write its report
# make test    set up, check the code and run the tests
# make setup   only the environment, in .venv

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: study test setup check

study: $(READY)
	$(BIN)/snakemake --cores all
	$(BIN)/snakemake --report results/sample/report.html

test: $(READY) check
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	PYTHONPATH=workflow $(BIN)/lint-imports
	$(BIN)/snakemake --lint

setup: $(READY)

# torch comes first and alone, so that pip never looks for another build of it.
$(READY): envs/requirements.lock envs/parity.lock envs/slurm.lock
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' envs/requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r envs/parity.lock -r envs/slurm.lock
	touch $(READY)
