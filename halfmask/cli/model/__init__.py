"""Verbs that make a model of a trained one."""
