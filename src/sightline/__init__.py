"""Sightline aligns vision-language models with what people want from them."""

__version__ = "0.1.0"
