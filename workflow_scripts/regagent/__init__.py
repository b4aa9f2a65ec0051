"""Robust MR-CT registration by a recurrent reinforcement-learning agent (Sun et al., ACCV 2018)."""

__version__ = "0.1.0"
