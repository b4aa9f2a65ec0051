"""Slice pairs: slices, landmarks, perturbations, training pairs and their augmentation (§3.3, §4)."""
