# `make demo` and `make test` need only Python 3.11 or newer: each makes .venv, installs what it
# needs, and runs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint format clean

demo: .venv/experiments.done
	$(BIN)/python -m experiments.compress.main $(ARGS)

test: .venv/test.done
	$(BIN)/python -m pytest -n auto $(ARGS)

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

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
