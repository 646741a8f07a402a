"""Stages: blocks that repeat, and what a run with more of them shows."""
