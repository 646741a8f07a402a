"""Running a network on the meta device, every operator seen with the module it ran in."""
