"""Post-training data sets in one schema, and the texts of them that are compared."""
