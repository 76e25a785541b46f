"""Policies behind openpi's WebSocket protocol, under any benchmark of videopolicy."""
