"""Building: what a plan says, carried out on modules, their attributes and weights."""
