# Two commands for everybody: `make demo` and `make test`. They need python3 (3.11 or newer), pip and make.
# Written for GNU make 3.81, which macOS still ships.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
PY := $(BIN)/python
CODE := soothsayer_mcp tests scripts benchmarks

# A shell that forbids it would have every process of a run compile the whole package again.
unexport PYTHONDONTWRITEBYTECODE

# What is handed on to pytest, to `soothsayer demo` and to the benchmarks: make test ARGS="tests/policy -k order"
ARGS ?=

.PHONY: help demo test check format coverage bench soak mutate pitfalls conformance servers browser hosts-cli docs dist clean

help:
	@sed -n 's/^#: //p' $(firstword $(MAKEFILE_LIST))

#: make demo        the offline tour: no account, no model, no network once installed
demo: .venv/.ready
	@$(BIN)/soothsayer demo $(ARGS)

#: make test        the whole suite; what the machine lacks is skipped, and said
test: .venv/.ready-test
	@$(PY) -m pytest -n auto --dist worksteal $(ARGS)

#: make check       what a change must pass: format, lint, types, layers, generated files, the wheel, then the suite
check: .venv/.ready-test
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-cache
	@$(PY) scripts/generate.py --check
	@$(PY) scripts/clean_install.py
	@$(MAKE) --no-print-directory test

#: make format      format and mend what can be mended
format: .venv/.ready-test
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

#: make coverage    the suite with branch coverage, and what it missed
coverage: .venv/.ready-test
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

#: make bench       what it costs to be governed, against no proxy, in one interleaved run
bench: .venv/.ready-test
	@$(PY) -m benchmarks $(ARGS)
	@$(PY) scripts/false_alarms.py

#: make soak        the long runs
soak: .venv/.ready-test
	@$(PY) -m pytest -m soak --timeout 3600 $(ARGS)

#: make mutate      break the deciding code on purpose; what no test notices is listed
mutate: .venv/.ready-test
	@$(PY) scripts/mutate.py $(ARGS)

#: make pitfalls    the rows of docs/pitfalls.md that no test covers yet
pitfalls: .venv/.ready-test
	@$(PY) scripts/pitfall_rows.py $(ARGS)

#: make conformance the official suite on a client, directly and through the proxy to remote servers; they must not differ
conformance: .venv/.ready-test
	@$(PY) scripts/conformance.py

#: make servers     the real tool servers that the end-to-end tests drive, under .servers/
servers: .venv/.ready-test
	@$(PY) tests/end_to_end/install.py

#: make browser     what drives a browser in tests/browser; Chromium itself is the system's, or SOOTHSAYER_CHROMIUM
browser:
	@npm ci --prefix tests/browser --silent --no-audit --no-fund

#: make hosts-cli   real hosts from npm, under .servers/hosts (more than 1 GB), for the tests that list servers through them
hosts-cli: .venv/.ready-test
	@$(PY) tests/end_to_end/install.py hosts

#: make docs        write the generated pages again
docs: .venv/.ready-test
	@$(PY) scripts/generate.py

#: make dist        wheel and source, under dist/
dist: .venv/.ready-test
	@$(PY) -m hatchling build --directory dist

#: make clean       away with what was built
clean:
	rm -rf .venv .servers dist build htmlcov .coverage .coverage.* .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Some systems ship python3 without ensurepip: then the environment is made bare, and the outer pip (22.3 or newer) fills it.
$(PY):
	@if [ -z "$(PYTHON)" ]; then echo "make: Python 3.11 or newer was not found: install it, or run 'make PYTHON=/path/to/python3 $(MAKECMDGOALS)'" >&2; exit 2; fi
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip .venv

INSTALL = if $(PY) -m pip --version >/dev/null 2>&1; then pip="$(PY) -m pip"; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then pip="$(PYTHON) -m pip --python $(PY)"; \
	else echo "make: pip was not found: install it for $(PYTHON) (python3-pip, or python3-venv)" >&2; exit 2; fi; \
	$$pip install --quiet --disable-pip-version-check --editable

.venv/.ready: pyproject.toml | $(PY)
	@$(INSTALL) .
	@touch $@

.venv/.ready-test: pyproject.toml | $(PY)
	@$(INSTALL) '.[test]'
	@touch .venv/.ready $@
