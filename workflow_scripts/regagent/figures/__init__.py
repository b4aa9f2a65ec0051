"""Every picture: Figures 4 and 5 of the paper, and those that it leaves out."""
