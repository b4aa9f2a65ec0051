"""How alike two images of different modalities are: the mutual information of their joint histogram."""

import numpy as np
from numpy.typing import NDArray


def mutual_information(joint: NDArray) -> NDArray[np.float64]:
    """Return the mutual information (...) in nats of joint distributions (..., I, J), each of sum 1.

    It is H(I) + H(J) - H(I, J), where H is the entropy.
    """
    both = joint.reshape(*joint.shape[:-2], -1)
    return _entropy(joint.sum(-2)) + _entropy(joint.sum(-1)) - _entropy(both)


def _entropy(shares: NDArray) -> NDArray[np.float64]:
    """Return the entropy (...) in nats of distributions (..., N)."""
    return -(shares * np.log(np.maximum(shares, 1e-12))).sum(-1)
