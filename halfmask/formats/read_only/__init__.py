"""Formats that `convert` reads and does not write, each one a file of its own."""
