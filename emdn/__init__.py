"""Denoise electron micrographs."""

__version__ = "0.1.0"
