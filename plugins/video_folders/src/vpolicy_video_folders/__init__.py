"""Folders of videos with sentences: nobody has recorded what was done."""
