"""Tests that open the built book in a browser."""
