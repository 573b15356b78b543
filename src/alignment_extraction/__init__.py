"""Measure how much of its post-training data an open-weight language model gives away."""

from importlib.metadata import version

__version__ = version("alignment-extraction")
