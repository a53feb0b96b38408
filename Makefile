# Two commands for users: `make demo` and `make test`. Every target sets everything up in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two processes with one thread each are faster on two cores than one process with two.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1

.PHONY: demo test slow check docs sbom audit setup clean

demo: setup
	$(BIN)/halfmask demo --out demo

test: setup
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -n 2

slow: setup
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -n 2 -m slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The site: site/index.html"

sbom: setup
	$(BIN)/python tools/licences.py --sbom sbom.json

# Known vulnerabilities, by osv.dev; without a network it says so and passes.
audit: setup
	$(BIN)/python tools/audit.py $(VENV)-audit

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "halfmask needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-audit demo runs build dist site *.egg-info
