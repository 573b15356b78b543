"""From matches to evidence: rates, thresholds, coverage and kinds of copying, as tables."""
