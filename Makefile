# make run    sets up and starts the service         make test   sets up and runs every check
PYTHON ?= python3
VENV   ?= .venv
HOST   ?= 127.0.0.1
PORT   ?= 8000
BIN    := $(VENV)/bin

.PHONY: install run test system lint types check report clean

install: $(VENV)/.serving

run: install
	@$(BIN)/python -m serving run --host $(HOST) --port $(PORT)

test: $(VENV)/.dev system lint types check

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.serving: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[serving]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.serving

# The page is tested in a real browser: CI must have one, elsewhere its tests are skipped without it.
system:
	@if [ "$$CI" = true ] && ! command -v chromium >/dev/null; then \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q chromium fonts-noto-cjk; fi

lint:
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

check:
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) var reports runs
