"""Robust MR-CT registration by a recurrent reinforcement-learning agent (Sun et al., ACCV 2018)."""

import os

__version__ = "0.1.0"

# OpenCV reads this when it is loaded: the pipeline runs many processes, and 168 px are too few for threads.
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
