"""Sources: from what a user names to a network, and the images that it takes."""
