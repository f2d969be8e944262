"""Turns a finished run into one self-contained HTML page that a person likes to read."""
