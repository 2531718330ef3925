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

.DEFAULT_GOAL := help
.PHONY: help demo test check stress-ci stress soak bench dist packer test-tools wheel

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

demo: packer $(STAMP) ## build an example with real Packer, then show its state and its lock
	@.ci/demo

test: packer test-tools $(STAMP) $(if $(WHEEL),wheel) ## run all tests, with real Packer
	cd $(TREE) && "$(CURDIR)/$(BIN)/pytest" -n auto --dist worksteal

check: $(STAMP) ## lint, format, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py

stress-ci: packer test-tools $(STAMP) ## try to break it, for some minutes
	$(BIN)/pytest stress -n auto --dist worksteal --scale ci $(SEEDED)

stress: packer test-tools $(STAMP) ## the same at ten times the size
	$(BIN)/pytest stress -n auto --dist worksteal --scale stress $(SEEDED)

soak: packer test-tools $(STAMP) ## the same for hours, at every place there is
	$(BIN)/pytest stress -n auto --dist worksteal --scale soak $(SEEDED)

bench: packer $(STAMP) ## measure it beside what it is compared with, into README.md
	$(BIN)/python -m stress.bench --readme README.md --plots stress

dist: $(STAMP) ## build sdist and wheel into dist/
	@.ci/make-dist $(BIN)/python dist
	@ls dist/*

wheel: $(STAMP)
	@.ci/make-dist $(BIN)/python build/dist
	@.ci/install-wheel $(VENV) build/dist $(TREE)
	@rm $(STAMP) # so that no other target takes the wheel for the source

packer:
	@.ci/ensure-packer

test-tools:
	@.ci/ensure-test-tools

$(STAMP): pyproject.toml .ci/make-venv
	@.ci/make-venv "$(PYTHON)" $(VENV)
	@touch $@
