"""What predicts how far off a registration is, and keeps what that is worth."""

import numpy as np
import torch
from torch import Tensor, nn

from regagent.agent.distance import FARTHEST, NEAREST
from regagent.evaluation.registrations import SUCCESS_PX

#: The predicted D in px at which a network keeps what they are worth (see ``agent.trust``).
TRUST_KNOTS = np.geomspace(NEAREST, FARTHEST, 32)


class Judged(nn.Module):
    """What predicts D, and keeps what it is worth.

    ``trust`` (4, K) says what predicted D, the ``TRUST_KNOTS``, are worth: the probability of a success, the
    expected TRE and the ends of its interval. Until it is found, D is taken at its word. A case that is less
    likely to be a success than ``least`` is refused.
    """

    trust: Tensor
    least: Tensor  # ()

    def __init__(self) -> None:
        super().__init__()
        at_its_word = np.stack([TRUST_KNOTS <= SUCCESS_PX, *3 * [TRUST_KNOTS]])
        self.register_buffer("trust", torch.tensor(at_its_word, dtype=torch.float32))
        self.register_buffer("least", torch.tensor(0.5))
