"""The figures: Figures 4 and 5 of the paper, and others that the paper does not have."""
