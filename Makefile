# make run    the main job (params.yaml: run); make run SMALL=1 is the same at a small size
# make audit MODEL=mine.gguf DATA=mine.jsonl   audit your own model on your own data
#             (also NAME=, FORMAT=, HELD_OUT=, SAMPLES=; see alignment-extraction audit --help)
# make test   all tests but the slow ones
# make lint   style and types
# Variables: PYTHON (the interpreter that .venv is made with), CORES, GPU=1 (llama.cpp with CUDA)

PYTHON ?= python3
CORES ?= all
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# A llama.cpp with CUDA, once asked for, stays.
ifneq ($(wildcard .venv/llama-cuda),)
GPU := 1
endif
ifdef GPU
export CMAKE_ARGS ?= -DGGML_CUDA=on
else ifneq ($(shell grep -sc amx_tile /proc/cpuinfo),)
# GCC miscompiles ggml's AMX kernels (llama.cpp pull request 26954); AVX-512 takes their place.
ifneq ($(shell grep -sc amx_tile /proc/cpuinfo),0)
export CMAKE_ARGS ?= -DCMAKE_C_FLAGS=-mno-amx-tile -DCMAKE_CXX_FLAGS=-mno-amx-tile
endif
endif

AUDIT_OPTIONS := $(if $(NAME),--name $(NAME)) $(if $(FORMAT),--format $(FORMAT)) \
	$(if $(HELD_OUT),--held-out '$(HELD_OUT)') $(if $(SAMPLES),--samples $(SAMPLES))
SMALL_CONFIG := $(if $(SMALL),--configfile workflow/small.yaml)

.PHONY: run audit test test-slow lint format environment

environment: .venv/llama-$(if $(GPU),cuda,cpu)

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	# PyTorch with what its build needs; the rest is locked whole, so nothing is left to resolve.
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	grep -v '^llama_cpp_python==' requirements.lock | $(BIN)/python -m pip install --quiet --no-deps -r /dev/stdin
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv/llama-cpu .venv/llama-cuda: .venv/installed
	# pip's cache does not tell the builds apart.
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(if $(GPU),--no-cache-dir) \
		"$$(grep '^llama_cpp_python==' requirements.lock)"
	rm -f .venv/llama-*
	touch $@

run: environment
	# Shipped models spare their training; see docs/training.md.
	test -e data/models/trained/rl.gguf || dvc pull --quiet models
	snakemake --cores $(CORES) $(SMALL_CONFIG)

audit: environment
	@test -n "$(MODEL)" -a -n "$(DATA)" || { echo 'usage: make audit MODEL=mine.gguf DATA=mine.jsonl'; exit 2; }
	study=$$(alignment-extraction audit '$(MODEL)' '$(DATA)' $(AUDIT_OPTIONS)) \
	&& snakemake --cores $(CORES) --configfile "$$study" \
	&& echo "The report: results/$$(basename "$$study" .yaml)/report.html"

test: environment
	# A file's tests stay together: they share what the first of them made.
	pytest --numprocesses logical --maxprocesses 4 --dist loadfile

test-slow: environment
	pytest -m slow

lint: environment
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy

format: environment
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow
