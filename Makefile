# `make` lists the targets. Everything is installed into .venv (the benchmark's peers into .bench), and
# nothing outside this folder but, by apt where you are root, chromium for `test` and redis for `bench`.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Most of a test's time is waiting: three files at a time keep two cores busy.
TEST_PROCESSES := 3
INSTALLED_BY := pyproject.toml constraints.txt hatch_build.py
# pip's own lines, but for the errors, become one line, which counts where somebody watches.
QUIETLY := awk -v watched="$$(test -t 2 && echo yes || true)" \
	'/^Collecting|^Requirement already/ { n++; if (watched) { printf "\r  %d packages found", n; fflush() } } \
	/^Installing collected/ { printf "\r  %d packages found; installing", n; fflush() } \
	END { print "" }'

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.PHONY: help up test check format bench faults docs constraints browser clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(VENV)/.installed-run ## install, and run the whole of Onthedot here (ARGS="--port 9090")
	@exec $(BIN)/onthedot up $(ARGS)

test: $(VENV)/.installed-dev browser ## run the tests (ARGS="-k overlap" for some of them)
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

check: $(VENV)/.installed-dev ## formatting, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## format the code, and repair what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev .bench/.installed ## beside bare Temporal and peers (ARGS="--parts herd --tasks 1000")
	@$(BIN)/python -m bench $(ARGS)

# The peers, apart from everything else. Where they cannot be had, the benchmark says so and goes on.
.bench/.installed: bench/peers.txt | $(VENV)/bin/python
	@echo "Installing the peers of the benchmark into .bench"
	@$(BIN)/python -m venv .bench
	@.bench/bin/python -m pip --disable-pip-version-check --no-input install -r $< | $(QUIETLY) \
		|| echo "They could not be installed: the benchmark will leave them out" >&2
	@if [ "$$(id -u)" = 0 ] && ! command -v redis-server >/dev/null && command -v apt-get >/dev/null; then \
		echo "Installing redis-server for Celery"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends redis-server; } >/dev/null 2>&1 \
			|| echo "redis-server could not be installed: Celery will be left out" >&2; \
	fi
	@touch $@

faults: $(VENV)/.installed-dev ## kill, stop and cut off every part under load (ARGS="-k postgres")
	@$(BIN)/python -m pytest tests/faults -m "fast or long" $(if $(ARGS),,--page docs/reliability.md) $(ARGS)

docs: $(VENV)/.installed-dev ## write docs/settings.md from the settings themselves
	@$(BIN)/python docs/settings_page.py

constraints: $(VENV)/.installed-dev ## raise every pinned version and write constraints.txt
	@echo "Raising every dependency ..."
	@$(PIP) install --upgrade --upgrade-strategy eager -e '.[embedded,tracing,dev]' | $(QUIETLY)
	@{ echo "# Every version that the tests ran with; written by 'make constraints'."; \
		$(PIP) freeze --exclude-editable; } > constraints.txt
	@touch $(VENV)/.installed-run $(VENV)/.installed-dev

clean: ## remove what was installed and built, but not the data in .onthedot
	rm -rf $(VENV) .bench build dist web/static/vendor .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@for python in python3.14 python3.13 python3.12 python3.11 python3; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Making $(VENV) with $$("$$python" --version)"; \
			"$$python" -m venv $(VENV) && exit 0; \
			rm -rf $(VENV); \
			echo "'$$python -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
		fi; \
	done; \
	echo "Onthedot needs Python 3.11 or newer; found: $$(python3 --version 2>&1 || true)" >&2; exit 1

$(VENV)/.installed-run: $(INSTALLED_BY) | $(VENV)/bin/python
	@echo "Installing Onthedot into $(VENV) (about a minute the first time)"
	@$(PIP) install -c constraints.txt -e '.[embedded]' | $(QUIETLY)
	@touch $@

# It holds all that the other has, which need not be installed again.
$(VENV)/.installed-dev: $(INSTALLED_BY) | $(VENV)/bin/python
	@echo "Installing Onthedot and its tests into $(VENV) (a minute or two the first time)"
	@$(PIP) install -c constraints.txt -e '.[embedded,tracing,dev]' | $(QUIETLY)
	@touch $(VENV)/.installed-run $@

# The browser tests drive Debian's chromium, and say why they are skipped where there is none.
browser:
	@if [ ! -x /usr/bin/chromium ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium for the browser tests"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
			|| echo "chromium could not be installed: the browser tests will be skipped"; \
	fi
