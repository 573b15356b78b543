"""The report of a study: one HTML page, and a summary for a README."""
