# Two commands matter: `make run` reads the sample radiograph, `make test` runs every test.
# `make test PART=edge` (or PART=server) installs and tests that part only, without torch.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
PART ?= all
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

EXTRAS_run := edge,sample
EXTRAS_edge := edge,dev
EXTRAS_server := server,s3-server,dev
EXTRAS_all := edge,server,s3-server,train,convert,tensorflow,dev

# `make walk-edge` walks through the app by itself, with a screenshot a step in results/walk-edge; `make e2e` goes from an
# X-ray device to the emergency room and back (results/e2e).

.PHONY: run test check bench bench-server walk-edge e2e translations apt clean

run: $(VENV)/.installed-run
	@$(BIN)/firstray demo

test: apt $(VENV)/.installed-$(PART)
	FIRSTRAY_TEST_PART=$(PART) $(BIN)/python -m pytest

check: $(VENV)/.installed-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: apt $(VENV)/.installed-all
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.edge

bench-server: apt $(VENV)/.installed-all
	$(BIN)/python -m benchmarks.server

walk-edge: apt $(VENV)/.installed-edge
	$(BIN)/python -m tools.walk_edge

e2e: apt $(VENV)/.installed-all
	$(BIN)/python -m tools.e2e

translations: $(VENV)/.installed-edge
	$(BIN)/pybabel compile -D firstray -d edge_app/locale
	$(BIN)/pybabel compile -D hospital -d sync_server/locale

apt:
	@sh tools/apt_packages.sh $(PART)

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing firstray[$(EXTRAS_$*)] into $(VENV) ..."
	@$(PIP) -e '.[$(EXTRAS_$*)]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "FirstRay needs Python 3.11 or newer: apt-get install python3 python3-venv"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "FirstRay needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }

clean:
	rm -rf $(VENV) .cache results
