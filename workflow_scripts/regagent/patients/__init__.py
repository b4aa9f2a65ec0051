"""The patients: sample sheet, split, volumes as scanners write them, and their alignment in 3D (§4)."""
