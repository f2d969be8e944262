"""Rows and their pictures, read from disk: files, images, the order of reading, and a check of all three."""
