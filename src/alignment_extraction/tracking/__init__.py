"""The MLflow record of a study, and the comparison of runs."""

import logging
import os

# Before MLflow is imported, for then it begins to report its use. The limits keep a server that is
# down from holding up a study for many minutes. What the user has set wins.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # It would print a URL with its password.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}.items():
    os.environ.setdefault(_name, _value)

# Making the tables of a new database logs a hundred lines; a retry logs the query of a URL. What
# fails in the end is raised.
for _name in ("alembic", "mlflow.store.db", "urllib3.connectionpool"):
    logging.getLogger(_name).setLevel(logging.ERROR)
