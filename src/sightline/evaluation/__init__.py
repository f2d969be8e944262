"""Measures models on tasks and says how sure the numbers are."""
