"""The parts that a recipe names, and who provides them: kinds, the fields that hold one, plugins, the registry.

May import `contracts` and the root's vocabulary. `storage` gets from it what identifies a component, `recipes` the
fields that resolve names.
"""
