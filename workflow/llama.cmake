# Read by CMake when llama.cpp is compiled for llama-cpp-python (see Makefile): without llama.cpp's
# common library, which only its tools use, and which llama-cpp-python switches on beyond the reach
# of an option.
set(LLAMA_BUILD_COMMON OFF)
