"""Demonstrations in robomimic-style HDF5."""
