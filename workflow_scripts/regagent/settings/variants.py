"""The settings of a variant: what is trained, or taken from another run."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from regagent.settings.base import Fraction, Model, NonNegative, Positive, PositiveFloat
from regagent.settings.pairs import Augmentation


class Agent(Model):
    """What the reinforcement-learning and the supervised agents share: network, episode, optimiser."""

    network: Literal["CNN-LSTM", "CNN"] = "CNN-LSTM"
    """`CNN-LSTM` (Table 1) or `CNN` (without memory, §5.1)."""

    distance: Literal["LME", "matrix"] = "LME"
    """The distance D to the truth, by which reward and terminal are measured: `LME` (of the landmarks, in px)
    or `matrix` (of the pose's parameters)."""

    matrix_scale_weight: PositiveFloat = 20.0
    """Weight of the scale in the distance `matrix`. With 20 one action of any kind is about one unit, with 1
    scale hardly counts."""

    steps: Positive = 400_000
    """Number of environment steps of all workers together."""

    workers: Positive = 1
    """Number of asynchronous processes that share the weights (§4: 8). One with many episodes repeats
    exactly, and the other cores can train other variants. Two bring one agent to its end sooner, never twice
    alike. On a GPU one process plays the episodes of all of them, in larger and fewer updates."""

    environments: Positive = 64
    """Number of episodes that a worker plays side by side."""

    unroll: Positive = 3
    """Number of steps between two updates (§4: 30)."""

    episode_steps: Positive = 100
    """An episode is cut off after this many steps (§4: 500)."""

    episodes_per_pair: Positive = 2
    """Number of episodes that a pair serves before a new one is drawn."""

    exploring_starts: Fraction = 0.75
    """Fraction of the episodes that start on the way to the truth instead of at the perturbed pose (the paper
    has none)."""

    terminal_distance: PositiveFloat = 1.0
    """An episode succeeds when D falls below this, in px for `LME`."""

    terminal_reward: float = 10.0
    """Reward of a success."""

    learning_rate: PositiveFloat = 1.3e-3
    """Learning rate of Adam (§4: 0.0001)."""

    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Momentum of Adam. Gradients that come late, as those of several workers do, act as momentum already,
    and with Adam's usual 0.9 learning starts much later at this rate."""

    warmup_fraction: Fraction = 0.06
    """Fraction of the training over which the learning rate rises from 0. Without it one training in twelve
    did not begin to learn, and with two workers more than half of them."""

    final_learning_rate_fraction: Fraction = 0.1
    """Fraction of the learning rate that is left at the end; it falls linearly."""

    gradient_clip: PositiveFloat = 0.5
    """Largest norm of a gradient."""

    rescale_values: bool = True
    """`true` learns the stopping value, by which an agent stops, on a compressed scale, as it spans
    thousands."""

    terminal_value_weight: NonNegative = 0.25
    """Weight with which the stopping value also learns what the states are worth at which episodes end: the
    terminal reward, or 0 for a supervised agent. The paper's agent never sees them, and yet has to stop
    there."""

    stopping_discount: Fraction = 0.95
    """Discount of the paper's return that the stopping value predicts. With `reward: paper` the critic is the
    stopping value, and `discount` holds instead."""

    stopping_weight: NonNegative = 0.1
    """Weight of the stopping value in the loss at the end of the training. It grows from 0, because from the
    start on it would drown the policy in the layers that both share."""

    augmentation: Augmentation = Augmentation()
    """Random variations of the training pairs."""

    checkpoint_seconds: PositiveFloat = 60.0
    """Time between two checkpoints in seconds."""

    @property
    def values(self) -> int:
        """How many values the network has (see ``networks.AgentNetwork``)."""
        return 1


class ReinforcementAgent(Agent):
    """An agent trained by A3C (§3.4)."""

    learner: Literal["reinforcement"]
    """`reinforcement` trains an agent by A3C (§3.4)."""

    reward: Literal["potential", "paper"] = "potential"
    """`paper`: −D after each step. `potential`: D before minus D after, with the same way to the truth,
    learned far sooner."""

    reward_scale: PositiveFloat = 0.3
    """Factor on the potential reward."""

    discount: Fraction = 0.7
    """Discount γ a step (§4: 0.99)."""

    trace_decay: Fraction = 0.7
    """Decay λ of the advantages of the potential reward. 1 is the n-step return, which the paper's reward
    always has."""

    value_weight: NonNegative = 0.05
    """Weight of ½(R − V)² in the loss."""

    normalise_advantages: bool = True
    """`true` gives the advantages of an update mean 0 and variance 1."""

    entropy_weight: NonNegative = 0.01
    """Weight β of the policy's entropy in the loss (§4: 0.1)."""

    @property
    def values(self) -> int:
        """The critic of the shaped reward and the value to stop by, or one that serves both."""
        return 2 if self.reward == "potential" else 1


class SupervisedAgent(Agent):
    """An agent that is shown the best action of each step (§3.5)."""

    learner: Literal["supervised"]
    """`supervised` shows an agent the best action of each step (§3.5)."""


class Regressor(Model):
    """Pure SL: one network, one shot (§4)."""

    learner: Literal["regression"]
    """`regression` is pure SL: one network, one shot (§4)."""

    steps: Positive = 6_000
    """Number of updates."""

    batch: Positive = 32
    """Number of pairs an update."""

    learning_rate: PositiveFloat = 1e-3
    """Learning rate of Adam at the start; it falls as a cosine."""

    augmentation: Augmentation = Augmentation()
    """Random variations of the training pairs."""

    checkpoint_seconds: PositiveFloat = 60.0
    """Time between two checkpoints in seconds."""


class Pretrained(Model):
    """An agent that was trained in another run: its file agent.pt."""

    learner: Literal["pretrained"]
    """`pretrained` takes an agent of another run."""

    model: str
    """Path of the agent's file, `results/{run}/models/{variant}/seed{n}/agent.pt` of that run."""


AgentSettings = ReinforcementAgent | SupervisedAgent
Variant = Annotated[AgentSettings | Regressor | Pretrained, Field(discriminator="learner")]
_VARIANT: TypeAdapter[Variant] = TypeAdapter(Variant)


def variant(settings: Mapping[str, Any]) -> Variant:
    """Return one entry of ``variants`` from plain values, as the model that its ``learner`` names.

    Raises pydantic's ``ValidationError``.
    """
    return _VARIANT.validate_python(settings)
