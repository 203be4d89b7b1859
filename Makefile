# Every target works from a bare checkout with Python 3.11 or later and pip; .ci/run calls them by the same names.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCH  ?= ../shared/bench
TORCH  := $(shell grep -m1 '^torch==' constraints.txt)

# tiny tensors: a second thread costs more than it brings
test fast faults: export OMP_NUM_THREADS ?= 1

.PHONY: audit-deps setup demo test fast faults lint format types bench clean

setup: $(STAMP)

# torch comes first and by itself: a range asked for by another package would take a CUDA build of several GB
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "synthgen needs Python 3.11 or later: make PYTHON=/path/to/python3.11 setup" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/synthgen demo

# A process a core, and one more: some tests wait for servers, workers and schedules. A file stays whole in one, so
# that its trained models are shared.
PROCESSES := $(shell echo $$(( $$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 1) + 1 )))

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

fast: $(STAMP)
	$(BIN)/python -m pytest -m 'not slow' --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

# Faults injected, in about 10 minutes on two cores; counts them into docs/reliability.md.
faults: export SYNTHGEN_FAULTS ?= $(CURDIR)/runs/faults.jsonl
faults: $(STAMP)
	mkdir -p '$(dir $(SYNTHGEN_FAULTS))' && : > '$(SYNTHGEN_FAULTS)'
	$(BIN)/python -m pytest -m 'faults or survives' --numprocesses $(PROCESSES) --dist loadfile \
	  --no-loadscope-reorder; \
	  code=$$?; $(BIN)/python benchmarks/faults.py '$(SYNTHGEN_FAULTS)' && exit $$code

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Licences and pins of all that is installed; known vulnerabilities where pip-audit is installed and reaches PyPI.
audit-deps: $(STAMP)
	$(BIN)/python docker/supply_chain.py check --extras dev
	@if $(BIN)/python -m pip_audit --version >/dev/null 2>&1; then \
	  $(BIN)/python -m pip_audit --strict --requirement constraints.txt --no-deps --disable-pip; \
	else echo 'known vulnerabilities were not looked up: that needs pip-audit and a network' >&2; fi

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy

# Quality of synthgen, then all peers of benchmarks/compare.py: about an hour and a half on one free core (CTGAN takes
# most of it) and 7 GB for the environments below runs/. What compare.py has measured already is not run again.
bench: $(STAMP)
	@test -n '$(DATA)' || { echo 'make bench DATA=<folder of halves> [BENCH=<folder of the judge>]:' \
	  'see benchmarks/judge.py' >&2; exit 2; }
	$(BIN)/python benchmarks/quality.py --data '$(DATA)' --judge '$(BENCH)'
	$(BIN)/python benchmarks/compare.py --data '$(DATA)' --judge '$(BENCH)'

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
