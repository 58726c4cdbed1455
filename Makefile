# Every target makes the environment it needs and then does nothing twice: stamps in $(VENV) say
# what is installed. `make` alone lists the targets.
#
#   VENV=path      the environment to use (default .venv)
#   INSTALLED=1    VENV already holds the package under test: install nothing into it
#   PYTHON=python  the interpreter that creates VENV (>= 3.11)
#   ARGS="-k x"    more arguments for pytest, or for the benchmark
#   BENCH=file     one benchmark instead of all

VENV ?= .venv
PYTHON ?= python3
ARGS ?=
INSTALLED ?=

BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMPS := $(VENV)/.recengine
WHEEL := $(STAMPS)/wheel
SOURCES := pyproject.toml setup.py MANIFEST.in README.md LICENSE \
  $(shell find csrc recengine -type f \( -name '*.py' -o -name '*.pyi' -o -name '*.pyx' \
  -o -name '*.pxd' -o -name '*.h' -o -path 'csrc/*.cpp' -o -name py.typed \))
CYTHON_FILES = $(shell find recengine -name '*.pyx' -o -name '*.pxd')
CPP_FILES = $(shell find csrc tests/native benchmarks -name '*.h' -o -name '*.cpp')
BENCH = $(filter-out benchmarks/gpu_report.py, $(shell grep -l __main__ benchmarks/*.py))
CHECKS := check-lint check-format check-types check-cython check-cpp check-architecture

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check bench gpu-report clean $(CHECKS) \
  ready-demo ready-test ready-check ready-bench ready-gpu

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: ready-demo  ## real recommendations on real data, explained screen by screen
	$(BIN)/recengine demo

test: ready-test  ## the whole test suite, over the installed package
	RECENGINE_INSTALLED=1 $(BIN)/pytest $(ARGS)

check: ready-check  ## lint, format, types, architecture: runs all, reports every failure
	@$(MAKE) --no-print-directory --keep-going $(CHECKS)

bench: ready-bench  ## the benchmarks, beside the best peers
	set -e; for script in $(BENCH); do $(BIN)/python "$$script" $(ARGS); done

# Exit status 2 and nothing installed where there is no GPU; see benchmarks/gpu_report.py.
gpu-report:  ## every test and benchmark that needs an NVIDIA GPU, in one report
	@$(PYTHON) benchmarks/gpu_report.py --check
	@$(MAKE) --no-print-directory ready-gpu
	RECENGINE_INSTALLED=1 $(BIN)/python benchmarks/gpu_report.py $(ARGS)

clean:  ## remove .venv, build products and caches (downloads stay in the user's cache)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find recengine -name '*.so' -delete
	find recengine -name '_*.cpp' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the checks ------------------------------------------------------------------------------------

check-lint: ready-check
	$(BIN)/ruff check .

check-format: ready-check
	$(BIN)/ruff format --check .

check-types: ready-check
	$(BIN)/mypy

check-cython: ready-check
	$(BIN)/cython-lint $(CYTHON_FILES)

check-cpp: ready-check
	$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)

check-architecture: ready-check
	RECENGINE_INSTALLED=1 $(BIN)/pytest -q tests/test_architecture.py

# --- environments ----------------------------------------------------------------------------------

ifeq ($(INSTALLED),)
ready-demo: $(STAMPS)/demo
ready-test: $(STAMPS)/test
ready-check: $(STAMPS)/check
ready-bench: $(STAMPS)/bench
ready-gpu: $(STAMPS)/gpu
endif

$(STAMPS)/demo: EXTRAS := text,data,onnx
$(STAMPS)/test: EXTRAS := test
$(STAMPS)/check: EXTRAS := test,check
$(STAMPS)/bench: EXTRAS := bench
$(STAMPS)/gpu: EXTRAS := test,bench

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "recengine needs Python >= 3.11; $(PYTHON) is not: try make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# The wheel is built once for all targets. build/lib would keep modules that are gone.
$(STAMPS)/package: $(SOURCES) | $(STAMPS)/venv
	@echo "building recengine"
	@rm -rf build/lib* $(WHEEL)
	@$(PIP) wheel --quiet --no-deps --wheel-dir $(WHEEL) .
	@$(PIP) install --quiet --no-deps --force-reinstall $(WHEEL)/*.whl
	@touch $@

# An onnxruntime wheel that is there already stays: the two kinds overwrite each other.
$(STAMPS)/runtime: | $(STAMPS)/package
	@if $(PIP) list 2>/dev/null | grep -q '^onnxruntime'; then kind=; \
	elif nvidia-smi -L >/dev/null 2>&1 || [ -d /proc/driver/nvidia ]; then kind=gpu; \
	else kind=cpu; fi; \
	if [ -n "$$kind" ]; then $(call install,$$kind); else echo "onnxruntime is there: kept"; fi
	@touch $@

$(addprefix $(STAMPS)/,demo test check bench gpu): pyproject.toml $(STAMPS)/package | $(STAMPS)/runtime
	@$(call install,$(EXTRAS))
	@touch $@

# The wheel by its path, with extras: pip keeps the copy that is installed and adds what they need.
install = echo "installing recengine[$(1)] into $(VENV)"; \
  $(PIP) install --quiet "$$(echo $(WHEEL)/*.whl)[$(1)]"
