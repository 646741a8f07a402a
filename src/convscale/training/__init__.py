"""Train a network: recipes, data, the loop, and a run that stops and goes on where it was."""
