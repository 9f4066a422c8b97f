"""Reviewing over HTTP: tasks for reviewers, what they say of them, and what leads decide."""
