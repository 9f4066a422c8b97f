# make run    sets up and starts the service         make test   sets up and runs every check
PYTHON ?= python3
VENV   ?= .venv
HOST   ?= 127.0.0.1
PORT   ?= 8000
BIN    := $(VENV)/bin

.PHONY: install run test soak system lint types check clean

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

# The page is tested in a real browser, the store on a real PostgreSQL (which the tests start by themselves), the
# load harness with wrk: CI must have all three, elsewhere their tests are skipped without them.
system:
	@if [ "$$CI" = true ] && ! { command -v chromium && command -v wrk && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1; then \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
	    chromium fonts-noto-cjk postgresql wrk; fi

lint:
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

check:
	$(BIN)/python -m pytest

# The long versions: hundreds of kills on both databases; twenty times as many generated cases, other ones each time.
soak: $(VENV)/.dev system
	$(BIN)/python -m pytest --soak -s tests/test_kill.py tests/test_api_fuzz.py tests/test_stream_fuzz.py tests/test_text_fuzz.py

clean:
	rm -rf $(VENV) var reports runs
