"""Corpora: a release folder -> `datasets.Dataset` with one schema, and a spoken demo corpus."""
