"""The patients: their sample sheet and split, the import of their scans, and the alignment in 3D (§4)."""
