"""Corpora: releases, tables, folders and datasets -> `datasets.Dataset` with one schema; and a spoken demo corpus."""
