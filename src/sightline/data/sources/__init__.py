"""Prompt sets for reinforcement learning as others publish them, read into groups without answers; one file each."""
