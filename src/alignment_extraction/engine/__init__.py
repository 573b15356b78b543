"""Sampling and scoring with llama.cpp, many sequences in one batch."""
