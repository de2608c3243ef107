"""Metrics, significance, score fusion, reports and figures of finished runs."""
