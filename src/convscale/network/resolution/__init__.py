"""What of a network follows its input size: constructors, tables, sizes of maps."""
