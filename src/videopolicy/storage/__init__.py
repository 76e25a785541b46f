"""What is kept on disk, and how: whole files, locks, content-addressed artifacts, the run folder, provenance.

May import `components` (a component's options and sources are part of a key). Everything above reads and writes through
it: no other room knows where a file of a run lies.
"""
