# `make demo` and `make test` need only Python 3.11 or newer: each makes .venv, installs what it
# needs, and runs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# What `make bench` gives pip for torch; TORCH='torch --index-url https://download.pytorch.org/whl/cpu'
# spares a machine without a GPU some gigabytes.
TORCH ?= torch

.PHONY: demo test test-full bench bench-layers bench-cold lint format clean

demo: .venv/experiments.done
	$(BIN)/python -m experiments.compress.main $(ARGS)

test: .venv/test.done
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

# Without the shortcuts of tests/conftest.py: no cache of programs, and optimised as users run them.
test-full: .venv/test.done
	TNJAX_TEST_FULL=1 $(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

bench: .venv/bench.done
	$(BIN)/python -m experiments.benchmarks.decompositions $(ARGS)

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
