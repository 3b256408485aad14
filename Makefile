# `make` lists the targets. Everything happens in .venv; nothing outside this folder is changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

# Small models gain nothing from more threads, and two processes that share a core lose a lot.
PYTEST_OPTIONS ?= -n auto --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

.PHONY: install
install: $(INSTALLED) ## create .venv and install the package with the test extra

.PHONY: demo
demo: $(INSTALLED) ## search schedules for the small DiT that ships (again: resume)
	$(BIN)/schedsearch run search_spaces/digits_dit.yaml --output runs/digits_dit

.PHONY: test
test: $(INSTALLED) ## run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_OPTIONS)

.PHONY: test-slow
test-slow: $(INSTALLED) ## run the slow tests, which `make test` leaves out
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(PYTEST_OPTIONS)

.PHONY: faults
faults: $(INSTALLED) ## run the tests of every fault case and print the table
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/fault_table.py

.PHONY: fuzz
fuzz: $(INSTALLED) ## read 10,000 damaged files
	FUZZ_CASES=10000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rP $(PYTEST_OPTIONS) \
		tests/faults/test_fuzz.py

.PHONY: soak
soak: $(INSTALLED) ## kill drivers and workers 500 times (again: go on)
	mkdir -p runs
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/faults/soak.py \
		--kills 500 --output runs/soak.jsonl

.PHONY: lint
lint: $(INSTALLED_DEV) ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(INSTALLED_DEV) ## let ruff format and repair what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis

# ---- installation ---------------------------------------------------------------------------

# A .venv whose Python does not start (removed or upgraded Python) is made again, whatever
# its stamps say.
ifneq ($(shell $(BIN)/python -c 'import pip; print("works")' 2>/dev/null),works)
.PHONY: $(INSTALLED)
endif

# .installing marks a first installation that did not end: packages in it may be torn.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { \
		echo "schedsearch needs Python 3.11 or 3.12, but '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>&1 || true)." \
			"Name another one: make install PYTHON=python3.12" >&2; exit 1; }
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1 || test -e $(VENV)/.installing; then \
		echo "$(PYTHON) -m venv --clear $(VENV)"; \
		$(PYTHON) -m venv --clear $(VENV) || { \
			echo "Cannot make $(VENV); on Debian and Ubuntu install python3-venv." >&2; \
			exit 1; }; \
		touch $(VENV)/.installing; \
	fi
	$(BIN)/python -m pip install -c constraints.txt -e '.[test]'
	@rm -f $(VENV)/.installing
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@
