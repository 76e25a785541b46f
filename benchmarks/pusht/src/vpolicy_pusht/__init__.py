"""PushT and PushT-M as a benchmark."""
