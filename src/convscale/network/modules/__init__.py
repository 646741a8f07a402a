"""Modules as objects: walked and copied, with the numbers and values that they hold."""
