"""llama.cpp's own tools, built from the source that the installed llama-cpp-python came from.

    python benchmarks/peers.py [TOOL ...]   # builds into benchmarks/build: 4 minutes on 2 cores

The sdist of the installed version carries llama.cpp as `vendor/llama.cpp`; it is compiled with the
flags that its wheel is compiled with (a release build for this machine's processor).
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

BUILD = Path(__file__).resolve().parent / "build"
TOOLS = ("llama-batched-bench", "llama-perplexity")


def tool_path(tool: str) -> Path:
    """Where a tool lies once it is built."""
    return BUILD / f"llama_cpp_python-{version('llama-cpp-python')}" / "cmake" / "bin" / tool


def build(tools: Sequence[str] = TOOLS) -> dict[str, Path]:
    """The tools' paths, by name; compiles them if they are not there.

    `CMAKE_ARGS`, as given to the installation of llama-cpp-python, applies here too.
    """
    folder = BUILD / f"llama_cpp_python-{version('llama-cpp-python')}"
    binaries = {tool: tool_path(tool) for tool in tools}
    if not all(path.is_file() for path in binaries.values()):
        sdist()
        _run(
            *("cmake", "-S", str(folder / "vendor" / "llama.cpp"), "-B", str(folder / "cmake")),
            *("-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_SERVER=OFF"),
            *("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"),
            *os.environ.get("CMAKE_ARGS", "").split(),
        )
        jobs = str(len(os.sched_getaffinity(0)))
        _run("cmake", "--build", str(folder / "cmake"), "-j", jobs, "--target", *tools)
    return binaries


def sdist() -> Path:
    """The unpacked source distribution of the installed llama-cpp-python, fetched if need be."""
    release = version("llama-cpp-python")
    folder = BUILD / f"llama_cpp_python-{release}"
    archive = BUILD / f"{folder.name}.tar.gz"
    if not archive.is_file():
        _run(
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"),
            *("--dest", str(BUILD), f"llama-cpp-python=={release}"),
        )
    if not (folder / "CMakeLists.txt").is_file():
        with tarfile.open(archive) as packed:
            # Python has it from 3.11.4 on.
            safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            packed.extractall(BUILD, **safe)
    return folder


def _run(*command: str) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, check=True, stdout=2)


if __name__ == "__main__":
    for path in build(sys.argv[1:] or TOOLS).values():
        print(path)
