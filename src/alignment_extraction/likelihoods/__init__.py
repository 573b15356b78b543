"""Likelihood before and after training, membership by it, and discoverable extraction."""
