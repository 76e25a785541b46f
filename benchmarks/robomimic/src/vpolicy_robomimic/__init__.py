"""Tasks of robomimic as a benchmark."""
