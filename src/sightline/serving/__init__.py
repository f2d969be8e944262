"""An OpenAI-compatible HTTP server over anything that answers conversations: a model, or a script in a test."""
