"""Audits of someone's own model: on their own data, or on what it writes alone."""
