#!/usr/bin/env bash
# What a machine with an NVIDIA card does, in at most nine minutes, as JSON with the card's name.
#
#   benchmarks/gpu.sh [WHEELS]     WHEELS: a folder of wheels, for a machine without a network
#   benchmarks/gpu.sh --cpu        the same at a small size on the processor, with the Python at hand
#
# llama.cpp is compiled for this card from the source distribution of llama-cpp-python, which needs
# nvcc and cmake. Whatever does not fit into the time is left out and named in the JSON.
set -euo pipefail
cd "$(dirname "$0")/.."
end=$(($(date +%s) + 9 * 60 - 15))

if [ "${1:-}" = --cpu ]; then
    exec "${PYTHON:-python3}" benchmarks/gpu.py --cpu --until "$end"
fi

wheels=${1:-}
card=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
if [ -n "$wheels" ]; then
    export PIP_NO_INDEX=1 PIP_FIND_LINKS
    PIP_FIND_LINKS=$(realpath "$wheels")
fi
"${PYTHON:-python3}" -m venv build/gpu
python=$PWD/build/gpu/bin/python
export PYTHONPATH=src
install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

# One build gives the engine and its peer: the bindings are installed without a library of their
# own. For one architecture alone, as all of them take half an hour.
CMAKE_ARGS=-DLLAMA_BUILD=OFF install numpy "$(grep '^llama_cpp_python==' requirements.lock)"
CMAKE_ARGS="-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=$card" "$python" benchmarks/peers.py \
    llama-batched-bench &
build=$!
# Torch with its CUDA, and what the engine and the embedders import.
install torch polars pyyaml pydantic jinja2 tqdm filelock gguf sentence-transformers \
    annoy rapidfuzz scipy tokenizers safetensors huggingface-hub reasoning-gym pyarrow
wait "$build"
release=$("$python" -c 'from importlib.metadata import version; print(version("llama-cpp-python"))')
export LLAMA_CPP_LIB_PATH=$PWD/benchmarks/build/llama_cpp_python-$release/cmake/bin
exec "$python" benchmarks/gpu.py --until "$end"
