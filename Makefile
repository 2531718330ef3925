# Everything runs from .venv, which is made anew whenever pyproject.toml changes. On CI, or with
# WHEEL=1, the wheel is tested instead of the source, as it is built from the sdist, by the
# sdist's tests.

PYTHON ?= python3
export WHEEL ?= $(filter true,$(CI))
VENV := $(if $(WHEEL),build/venv,.venv)
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
TREE := $(if $(WHEEL),build/tree,.)
SEEDED := $(if $(SEED),--seed $(SEED))
# Tests on real servers and processes wait more than they compute.
WORKERS ?= $(shell expr 2 \* $$(nproc 2>/dev/null || echo 2))

# Compile each module once, whatever the caller's environment says.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo quick test check stress-ci stress soak bench audit dist packer test-tools wheel

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

demo: packer $(STAMP) ## build an example with real Packer, then show its state and its lock
	@.ci/demo

quick: $(STAMP) ## run the tests that start no process, on every save
	$(BIN)/pytest -q -m quick -n auto --dist worksteal

test: packer test-tools $(STAMP) $(if $(WHEEL),wheel) ## run all tests; PACKER=PATH names another Packer
	cd $(TREE) && "$(CURDIR)/$(BIN)/pytest" -n $(WORKERS) --dist worksteal $(if $(PACKER),"--packer=$(abspath $(PACKER))")

check: $(STAMP) ## lint, format, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py

stress-ci: packer test-tools $(STAMP) ## try to break it, for some minutes
	$(BIN)/pytest stress -n $(WORKERS) --dist worksteal --scale ci $(SEEDED)

stress: packer test-tools $(STAMP) ## the same at ten times the size
	$(BIN)/pytest stress -n auto --dist worksteal --scale stress $(SEEDED)

soak: packer test-tools $(STAMP) ## the same for hours, at every place there is
	$(BIN)/pytest stress -n auto --dist worksteal --scale soak $(SEEDED)

bench: packer $(STAMP) ## measure it beside what it is compared with, into packer_fork/docs
	$(BIN)/python -m stress.bench --page packer_fork/docs/figures.md --plots stress

audit: packer test-tools $(STAMP) ## compare what Packer reads under strace with what counts, into packer_fork/docs
	$(BIN)/python -m stress.audit --page packer_fork/docs/input-detection.md

dist: $(STAMP) ## build sdist and wheel into dist/
	@.ci/make-dist $(BIN)/python dist
	@ls dist/*

# DIST=FOLDER: the sdist and the wheel that were built there already.
wheel: $(STAMP)
	@$(if $(DIST),,.ci/make-dist $(BIN)/python build/dist)
	@.ci/install-wheel $(VENV) $(or $(DIST),build/dist) $(TREE)
	@rm $(STAMP) # so that no other target takes the wheel for the source

packer:
	@$(if $(PACKER),test -x "$(PACKER)" || { echo "PACKER=$(PACKER) is no program." >&2; exit 1; },.ci/ensure-packer)

test-tools:
	@.ci/ensure-test-tools

$(STAMP): pyproject.toml .ci/make-venv
	@.ci/make-venv "$(PYTHON)" $(VENV)
	@touch $@
