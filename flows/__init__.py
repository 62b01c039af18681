"""Flows: Prefect runs the stages of dvc.yaml, several at once; DVC alone decides what is stale."""
