"""Weights that compress well: zeros by magnitude, and few different values."""
