# Needs Python 3.11 or newer and make; everything else is brought by `setup`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo
SEED ?= 0
READER ?= replies
CASES ?= 1000000
T2S_CHAOS_TRIALS ?= 20
T2S_CHAOS_SEED ?= 0
T2S_SOAK_TILE_QUERIES ?= 200000

.PHONY: setup demo test check docs docs-reference fuzz guided-fuzz chaos bench peers schema lock clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "installing into $(VENV), once: some minutes and 7 GB"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; name a newer one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

demo: setup  ## draw a small region, ask questions of it, score the answers
	$(BIN)/t2s demo --out $(OUT)
	@command -v t2s > /dev/null || echo "t2s itself is in $(BIN): . $(BIN)/activate"

test: setup  ## all tests that this machine can run; the others say why they skip
	$(BIN)/python -m pytest -n 2 --dist worksteal

chaos: setup  ## T2S_CHAOS_TRIALS=50 kills, full disks and bad networks of each kind, and a soak; seeds are printed
	T2S_CHAOS_TRIALS=$(T2S_CHAOS_TRIALS) T2S_CHAOS_SEED=$(T2S_CHAOS_SEED) T2S_SOAK_TILE_QUERIES=$(T2S_SOAK_TILE_QUERIES) \
	  $(BIN)/python -m pytest tests/chaos -rA --timeout=1800

check: setup docs  ## style, types, layers, pages, known holes in dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	.ci/audit

docs: setup  ## the documentation as a site in build/site; a broken link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # never --quiet, which counts no warning

docs-reference: setup  ## docs/reference/cli.md from the commands
	PYTHONPATH=. $(BIN)/python tests/cli_reference.py

fuzz: setup  ## a million changed replies, and 20,000 changed files for every other reader; make fuzz SEED=7
	PYTHONPATH=. $(BIN)/python tests/fuzzing.py --seed $(SEED)

guided-fuzz: setup  ## Atheris, which goes by coverage, where it installs; make guided-fuzz READER=queries.yaml CASES=20000
	$(BIN)/uv pip install --quiet --python $(BIN)/python atheris==3.0.0
	PYTHONPATH=.:tests $(BIN)/python tests/fuzzing.py --guided $(READER) --cases $(CASES) --seed $(SEED)

bench: setup  ## make bench BENCH=name runs one
	$(BIN)/python benchmarks/run.py $(BENCH)

peers: setup  ## what some benchmarks are measured against, in .peers
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .peers
	$(BIN)/uv pip install --quiet --python .peers/bin/python -r benchmarks/peers.in

schema: setup  ## what editors know of run.yaml
	$(BIN)/python -m flows.run_schema docs/reference/run.schema.json

lock: setup  ## refresh requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group dev --extra s3 --extra train --extra slurm --extra kubernetes --universal --generate-hashes --python-version 3.11 -o requirements.lock

clean:
	rm -rf $(VENV) .peers out .mypy_cache .ruff_cache .pytest_cache
