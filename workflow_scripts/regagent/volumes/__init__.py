"""Volumes and images on disk: read as scanners and other tools wrote them, checked, and written whole."""
