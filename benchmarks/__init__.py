"""Long measurements of the project itself; each is a target of the Makefile."""
