# Each target does its own set-up: a virtual environment in the checkout and
# dependencies by plain pip. Python 3.11 or newer, git and make are all it needs.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
GARMENTS := /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz

.PHONY: help install demo test lint types verify coverage zoos counting memory runtime-study ordering agreement profiles selection fashion-mnist training-speed resuming adaptation clean

help:             ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

install: $(STAMP) fashion-mnist ## set up the virtual environment, and Fashion-MNIST where that can be

demo: $(STAMP)    ## scale, count, measure and recommend, on real networks
	$(BIN)/convscale compare timm:resnet50 timm:efficientnet_b0 --strategies w,dwr,dWr \
	  --factors 2,4 --measure --latency-budget 2.5x --html demo/report.html

lint: $(STAMP)    ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)   ## static types, strict
	$(BIN)/mypy

# The types take one core more than a minute: they are checked while the tests run, and told last.
test: lint        ## lint, types and the whole test suite; what CI runs
	@types=$$(mktemp); $(BIN)/mypy >"$$types" 2>&1 & checking=$$!; \
	$(BIN)/pytest --numprocesses 2; tested=$$?; \
	wait $$checking; checked=$$?; cat "$$types"; rm "$$types"; exit $$((tested || checked))

verify: $(STAMP)  ## train the whole matrix one step, and export many networks to ONNX (30 min)
	$(BIN)/pytest --numprocesses 2 -m slow tests/test_matrix.py tests/test_export.py

coverage: $(STAMP) ## scale all networks of the list and write docs/coverage.md (hours; resumable)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.coverage $(ARGS)

zoos: $(STAMP)    ## scale the networks of another library: docs/other-libraries.md (half an hour; resumable)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[zoos]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.coverage --zoo pytorchcv \
	  --cases w:2,d:2,dWr:2,dwr:0.5 --output docs/other-libraries.md $(ARGS)

counting: $(STAMP) ## what a count costs beside a forward pass and other counters (5 min)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.counting $(ARGS)

memory: $(STAMP)  ## predicted against measured memory of twenty networks (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.memory $(ARGS)

runtime-study: $(STAMP) ## measure which metric tells the time here: docs/runtime-study.md (hours; resumable)
	$(BIN)/python -m benchmarks.runtime_study $(ARGS)

ordering: $(STAMP) ## put ten networks in order on a loaded machine (20 min)
	$(BIN)/python -m benchmarks.ordering $(ARGS)

profiles: $(STAMP) ## fit the shipped profiles to the public tables, write docs/prediction-study.md
	OMP_NUM_THREADS=1 PYTHONPATH=profiles $(BIN)/python profiles/fit.py $(ARGS)
	PYTHONPATH=profiles $(BIN)/python profiles/study.py

selection: $(STAMP) ## regret of choices by predicted latency on public tables: PROFILES=NAME (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.selection $(PROFILES) $(ARGS)

agreement: $(STAMP) ## compare counts with PyTorch's counter and timm's tables, write docs/agreement.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.agreement $(ARGS)

fashion-mnist:    ## install Fashion-MNIST, 31 MB: Debian's package dataset-fashion-mnist
	@if [ -e $(GARMENTS) ]; then echo "Fashion-MNIST is there."; \
	elif [ "$$(id -u)" = 0 ] && apt-get install --yes --quiet dataset-fashion-mnist; then :; \
	elif sudo -n true 2>/dev/null && sudo -n apt-get install --yes --quiet dataset-fashion-mnist; then :; \
	else echo "Not installed: Fashion-MNIST. As root: apt-get install dataset-fashion-mnist"; fi

training-speed: $(STAMP) ## training beside a loop written by hand, on the same network (10 min)
	$(BIN)/python -m benchmarks.training $(ARGS)

resuming: $(STAMP) ## kill a training run twenty times and compare its end with an undisturbed one's (15 min)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.resuming $(ARGS)

adaptation: $(STAMP) ## predict a device from another's profile and few times (an hour; docs/calibrating.md)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.adaptation $(ARGS)

clean:            ## remove what the targets made
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
