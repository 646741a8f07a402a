"""Depths: which stages can be deepened, tried by running them."""
