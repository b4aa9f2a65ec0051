"""Slice pairs: cut from aligned volumes, with landmarks, perturbed for tests, augmented for training (§4)."""
