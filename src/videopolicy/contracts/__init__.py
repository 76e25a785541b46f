"""What every kind of part promises to the others. Shapes are named in `videopolicy.types`."""
