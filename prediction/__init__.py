"""Prediction: what answers, in which order, and in which form the answers are written."""
