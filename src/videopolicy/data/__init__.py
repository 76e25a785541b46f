"""The data of a recipe: opened, or collected first."""
