"""Plans: what is asked of a scaling and what it comes to, as plain values."""
