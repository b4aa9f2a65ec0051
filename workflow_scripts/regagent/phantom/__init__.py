"""The simulated patients: a painted head, each its own, and the scanners that see it (§4 Dataset)."""
