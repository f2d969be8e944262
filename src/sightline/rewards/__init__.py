"""Plain functions from an answer and its truth to numbers; no torch, no model, nothing executed."""
