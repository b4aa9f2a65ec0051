"""The methods without learning: SIFT, Elastix, SimpleITK, and a search by mutual information (§4)."""
