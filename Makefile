# Two commands on a fresh machine with Python 3.11+ and make: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check lint types clean

demo: $(STAMP)  ## the main job on this machine's own CPU: calibrate, plan, predict, run for real, compare
	$(BIN)/hetsim validate scenarios/mixed_cpu.yaml

test: check  ## all checks and all tests
	$(BIN)/pytest

check: lint types

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hetsim needs Python 3.11 or newer; say make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: accuracy-public
accuracy-public: $(STAMP)  ## published measurements: GPUs and batches never measured, and measured plans; folder: HETSIM_PUBLIC_DATA
	$(BIN)/python -m benchmarks.transfer_public
	$(BIN)/python -m benchmarks.curves_public
	$(BIN)/python -m benchmarks.sailor_public
	$(BIN)/python -m benchmarks.amp_public
	$(BIN)/python -m benchmarks.virtualflow_public

.PHONY: bench
bench: $(STAMP)  ## how fast the simulator is on this machine
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m pytest -q -p no:cacheprovider --benchmark-columns=median,min,rounds --benchmark-sort=name benchmarks/bench_simulator.py

.PHONY: bench-planner
bench-planner: $(STAMP)  ## how fast plans are found and how near to the best possible, for 16 to 768 generated devices; a quarter of an hour
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_planner

.PHONY: bench-whatif
bench-whatif: $(STAMP)  ## how long the best purchase is looked for among thousands of sets of devices; some minutes
	$(BIN)/python -m benchmarks.bench_whatif

.PHONY: accuracy-live
accuracy-live: $(STAMP)  ## on this machine: plans of four networks run for real, whether parts add up, transfer, curves, memory; keep it quiet for an hour
	$(BIN)/python -m benchmarks.matrix_live --publish docs/accuracy.md
	$(BIN)/python -m benchmarks.hosts_live --publish docs/accuracy.md
	$(BIN)/python -m benchmarks.closing_live --folder runs/accuracy
	$(BIN)/python -m benchmarks.transfer_live --folder runs/accuracy
	$(BIN)/python -m benchmarks.curves_live
	$(BIN)/hetsim calibrate scenarios/mixed_cpu.yaml
	$(BIN)/python -m benchmarks.memory_live
	$(BIN)/python -m benchmarks.recording_live --publish docs/accuracy.md
	$(BIN)/python -m benchmarks.whatif_live
	$(BIN)/python -m benchmarks.alternatives_live --publish docs/accuracy.md

.PHONY: faults
faults: $(STAMP)  ## what a user sees when a run goes wrong; best as root
	$(BIN)/python -m benchmarks.faults_live --publish docs/accuracy.md
