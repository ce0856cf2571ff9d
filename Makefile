# `make demo` and `make test` need only Python 3.11 or newer: each makes .venv, installs what it
# needs, and runs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# What `make bench` gives pip for torch; TORCH='torch --index-url https://download.pytorch.org/whl/cpu'
# spares a machine without a GPU some gigabytes.
TORCH ?= torch

# Where tests and `make results` find CIFAR-10 and trained weights.
TNJAX_DATA ?= ../shared/data

.PHONY: demo results test test-full bench bench-cp bench-layers bench-cold lint format clean

demo: .venv/experiments.done
	$(BIN)/python -m experiments.compress.main $(ARGS)

# The published results, an hour on 2 cores. They name their commit, so the tree must be clean; one
# that was interrupted goes on.
PUBLISHED = results/$(shell git rev-parse --short HEAD)
results: .venv/experiments.done data/cifar-10-batches-py data/resnet32.npz
	@test -z "$$(git status --porcelain)" || { echo 'commit first: results name their commit'; exit 1; }
	$(BIN)/python -m experiments.compress.main --workdir=$(PUBLISHED)/digits
	$(BIN)/python -m experiments.compress.main --dataset=cifar10 --data_dir=data \
	  --weights=data/resnet32.npz --model=resnet32 --schemes=tk,cp --rates=0.1,0.2 \
	  --finetune_epochs=1 --workdir=$(PUBLISHED)/cifar10
	for name in digits cifar10; do for file in report.json summary.csv accuracy_vs_compression.png; \
	  do cp $(PUBLISHED)/$$name/$$file docs/results/$$name/ || exit 1; done; done
	$(BIN)/python -m experiments.compress.readme

data/cifar-10-batches-py: | .venv/experiments.done
	$(BIN)/python $(TNJAX_DATA)/unpack.py data

data/resnet32.npz:
	mkdir -p data && cp $(TNJAX_DATA)/weights/resnet32.npz $@

test: .venv/test.done
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

# Without the shortcuts of tests/conftest.py: no cache of programs, and optimised as users run them.
test-full: .venv/test.done
	TNJAX_TEST_FULL=1 $(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

bench: .venv/bench.done
	$(BIN)/python -m experiments.benchmarks.decompositions $(ARGS)

bench-cp: .venv/bench.done
	$(BIN)/python -m experiments.benchmarks.cp_problems $(ARGS)

bench-layers: .venv/experiments.done
	$(BIN)/python -m experiments.benchmarks.layers $(ARGS)

bench-cold: .venv/bench.done
	$(BIN)/python -m experiments.benchmarks.cold_start $(ARGS)

lint: .venv/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/test.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/python.done:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "tnjax needs Python 3.11 or newer; say which one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	touch $@

# One stamp per extra, so that a change of setup.py installs again.
.venv/%.done: setup.py .venv/python.done
	@echo "installing tnjax[$*] into .venv (under a minute)"
	$(PIP) -e '.[$*]'
	touch $@

# Without isolation, as torchTT would otherwise fetch a torch of its own to build against.
.venv/bench.done: setup.py .venv/python.done
	@echo "installing tnjax[bench] and the libraries it is compared with into .venv (minutes)"
	$(PIP) ninja numpy 'setuptools>=64' setuptools-scm wheel
	$(PIP) $(TORCH)
	$(PIP) --no-build-isolation -e '.[bench]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
