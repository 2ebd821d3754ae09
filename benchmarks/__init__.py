"""Measurements, each one run on one machine: ``PYTHONPATH=workflow .venv/bin/python -m benchmarks.<name>``."""
