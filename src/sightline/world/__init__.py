"""The embedded world: drawn scenes with complete truth, tasks, annotators, and the tiny model's upbringing."""
