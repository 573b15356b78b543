"""The report: a verdict, a page, a terminal's view, a gate, model cards, and masked copies."""
