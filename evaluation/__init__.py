"""Metrics, and later reports and figures."""
