# Two commands for everybody: `make demo` and `make test`. They need python3 (3.11 or newer), pip and make.
# Written for GNU make 3.81, which macOS still ships.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
PY := $(BIN)/python
PIP := $(PYTHON) -m pip --python $(PY) install --quiet --disable-pip-version-check

.PHONY: demo test check format bench soak mutate pitfalls docs dist clean

demo: .venv/.ready
	@$(BIN)/soothsayer demo

test: .venv/.ready-test
	@$(PY) -m pytest

$(PY):
	@if [ -z "$(PYTHON)" ]; then echo "make: Python 3.11 or newer was not found: install it, or run 'make PYTHON=/path/to/python3 $(MAKECMDGOALS)'" >&2; exit 2; fi
	@$(PYTHON) -m venv .venv 2>/dev/null || $(PYTHON) -m venv --clear --without-pip .venv

.venv/.ready: pyproject.toml | $(PY)
	@$(PIP) --editable .
	@touch $@

.venv/.ready-test: pyproject.toml | $(PY)
	@$(PIP) --editable '.[test]'
	@touch .venv/.ready $@
