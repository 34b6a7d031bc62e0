"""The benchmark: files and records at the bottom, games above players, the command line on top."""
