"""Micrographs by formula, for the book, the tests and training.

fields --> micrographs --> scenes
"""
