"""What a run folder holds, as a page, and the videos for it."""
