"""Studies: grids of runs and ensembles over a store, from a file, and their reports."""
