"""The reproduction as such: what a run consists of, what its code is, and where its results come from."""
