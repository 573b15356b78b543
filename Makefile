# make run    the main job (params.yaml: run); make run SMALL=1 is the same at a small size
# make audit MODEL=mine.gguf DATA=mine.jsonl   audit your own model on your own data
#             (also BASE=, HELD_OUT=, NAME=, SAMPLES=, MINUTES=; see alignment-extraction audit --help)
# make rehearse STUDY=olmo2-7b   one of the paper's studies, whole and in miniature, against a local hub
# make test   all tests but the slow ones
# make lint   style and types
# make training   what `snakemake` needs besides where it trains models or students
# Variables: PYTHON (the interpreter that .venv is made with), CORES, GPU=1 (llama.cpp with CUDA),
# LLAMA_WHEEL (a llama-cpp-python wheel built before: a file, an address or a folder's *.whl),
# V=1 (Snakemake's own messages in place of bars)

PYTHON ?= python3
CORES ?= all
# The study whose verdict `make run` ends with: the first of params.yaml's `run`.
STUDY ?= controlled
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
export CMAKE_ARGS ?= -DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8
endif
endif

# On a terminal, a bar for the run and one for each rule; logs/ has what the jobs write.
SNAKEMAKE := snakemake --cores $(CORES) $(if $(V),,$(shell test -t 2 && echo --logger rich))
SMALL_CONFIG := $(if $(SMALL),--configfile workflow/small.yaml)

# Only the library is needed: the multimodal and common parts are more than half of what would be
# compiled. Ninja uses every core, and ccache where it is installed.
export CMAKE_ARGS := $(strip $(filter-out -DLLAVA_BUILD=OFF,$(CMAKE_ARGS)) -DLLAVA_BUILD=OFF)
export CMAKE_TOOLCHAIN_FILE ?= $(CURDIR)/workflow/llama.cmake
# The wheel is kept for the next clone, under what it depends on: version, flags, processor, compiler.
LLAMA := $(shell grep '^llama_cpp_python==' requirements.lock)
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/alignment-extraction/wheels
KEY := $(shell (echo "$(LLAMA) $(CMAKE_ARGS)"; uname -sm; grep -m1 ^flags /proc/cpuinfo; \
	cc --version; nvcc --version) 2>/dev/null | cksum | cut -d' ' -f1)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# What is installed is what requirements.lock pins, and of it what the extra needs.
INSTALL := $(PIP) install --constraint requirements.lock --editable

# Reach the shell as they are typed, quotes and blanks included.
export MODEL DATA BASE HELD_OUT NAME SAMPLES MINUTES

.PHONY: run audit rehearse test test-slow lint format environment training development

READY := .venv/llama-$(if $(GPU),cuda,cpu)
environment: $(READY)
training: .venv/training
development: .venv/development

.venv/python: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade pip
	touch $@

# Compiled while the other packages arrive.
.venv/llama-cpu .venv/llama-cuda: .venv/python pyproject.toml
	set -e; wheel="$$LLAMA_WHEEL"; folder='$(CACHE)/$(KEY)'; \
	if [ -z "$$wheel" ] && ! ls "$$folder"/*.whl >/dev/null 2>&1; then \
		mkdir -p "$$folder"; \
		$(PIP) wheel --no-deps --no-cache-dir --wheel-dir "$$folder.$$$$" "$(LLAMA)" & build=$$!; \
	fi; \
	$(PIP) install "$$(grep '^torch==' requirements.lock)" "$$(grep '^numpy==' requirements.lock)"; \
	if [ -n "$$build" ]; then wait "$$build"; mv "$$folder.$$$$"/*.whl "$$folder"; rmdir "$$folder.$$$$"; fi; \
	$(PIP) install --no-deps --force-reinstall $${wheel:-"$$folder"/*.whl}; \
	$(INSTALL) .
	rm -f .venv/llama-*
	touch $@

.venv/training: $(READY)
	$(INSTALL) '.[train]'
	touch $@

.venv/development: $(READY)
	$(INSTALL) '.[dev,server,train]'
	touch $@ .venv/training

run: environment
	# Shipped models spare their training; see docs/training.md.
	test -e data/models/trained/rl.gguf || dvc pull --quiet models || $(MAKE) training
	$(SNAKEMAKE) $(SMALL_CONFIG)
	alignment-extraction report $(STUDY)

audit: environment
	@test -n "$$MODEL" || { echo 'usage: make audit MODEL=mine.gguf DATA=mine.jsonl'; exit 2; }
	alignment-extraction audit $${NAME:+--name "$$NAME"} $${BASE:+--base "$$BASE"} \
		$${HELD_OUT:+--held-out "$$HELD_OUT"} $${SAMPLES:+--samples "$$SAMPLES"} \
		$${MINUTES:+--minutes "$$MINUTES"} -- "$$MODEL" $${DATA:+"$$DATA"}

rehearse: development
	python -m tests.stand_ins $(STUDY)

test: development
	# A file's tests stay together: they share what the first of them made.
	pytest --numprocesses logical --maxprocesses 4 --dist loadfile

test-slow: development
	pytest -m slow

lint: development
	.ci/house
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy

format: development
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow
