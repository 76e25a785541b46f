"""How parts learn."""
