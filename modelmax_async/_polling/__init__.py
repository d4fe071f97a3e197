"""Waiting for jobs: one stream of polls for each, however many wait."""
