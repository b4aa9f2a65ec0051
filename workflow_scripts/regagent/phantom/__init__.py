"""Simulated patients: each one's head is painted and then scanned by an MR and a CT (§4 Dataset)."""
