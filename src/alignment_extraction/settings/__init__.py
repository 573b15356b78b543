"""params.yaml: its schema, its checks and the table of its keys."""
