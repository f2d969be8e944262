"""Updates, feeds, the loop and its checkpoints. Knows neither which loss nor which reward it runs."""
