"""Demonstrations in replay buffers that zarr stores."""
