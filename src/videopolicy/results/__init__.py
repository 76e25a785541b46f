"""Episodes, and what they add up to."""
