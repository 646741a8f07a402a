"""The command line: one small file a command, one line an error."""
