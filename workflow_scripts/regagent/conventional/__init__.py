"""The methods that learn nothing: SIFT, Elastix, SimpleITK, and a search by mutual information (§4)."""
