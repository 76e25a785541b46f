"""The parts that a recipe names, and who provides them."""
