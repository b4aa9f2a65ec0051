"""Reproducibility: the plan of a run, the hash of each job's code, and the record of a run's origin."""
