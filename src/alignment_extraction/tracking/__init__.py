"""The MLflow record of a study, and the comparison of runs."""
