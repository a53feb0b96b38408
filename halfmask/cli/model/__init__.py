"""Verbs that take a trained model beside a data set."""
