"""The settings of a variant: a network that is trained, or taken from another run."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, NonNegativeInt, TypeAdapter

from regagent.settings.base import Fraction, Model, NonNegative, Positive, PositiveFloat
from regagent.settings.pairs import Augmentation, CubeAugmentation, PerturbationRange


class StopThresholds(Model):
    """The values at which an agent stops (§3.6), given instead of found."""

    greedy: FiniteFloat
    """Threshold without the look-ahead (§4: 10 for RL, −0.05 for SL)."""

    lookahead: FiniteFloat
    """Threshold at which the look-ahead begins (§4: 9 for RL, −0.1 for SL)."""


class Accelerator(Model):
    """What an agent's training takes on a GPU: there an update's launches take the time, not its episodes."""

    environments: Positive = 1024
    """Number of episodes that are played side by side, in one process."""

    learning_rate: PositiveFloat = 2e-3
    """Learning rate of Adam."""

    steps_factor: PositiveFloat = 4.0
    """So many times the agent's `steps`: with more episodes in each, far fewer updates would be left."""


class Agent(Model):
    """The keys that reinforcement-learning and supervised agents share: network, episode and optimiser."""

    network: Literal["CNN-LSTM", "CNN"] = "CNN-LSTM"
    """`CNN-LSTM` (Table 1) or `CNN` (without memory, §5.1)."""

    distance: Literal["LME", "matrix", "Frobenius"] = "LME"
    """The distance D to the truth, by which reward and terminal are measured: `LME` (of the landmarks, in
    px), `matrix` (of the pose's parameters) or `Frobenius` (of the 2 × 3 matrices of Eq. 3 themselves)."""

    matrix_scale_weight: PositiveFloat = 20.0
    """Weight of the scale in the distance `matrix`. With 20 one action of any kind is about one unit. With 1
    the scale hardly counts."""

    steps: Positive = 400_000
    """Number of environment steps of all workers together."""

    episodes: Positive | None = None
    """Number of episodes of all workers together after which a training ends, unless its `steps` end it first
    (§4: 160 000, 20 000 of each of 8 workers). What changes during a training follows what comes first."""

    workers: Positive = 1
    """Number of asynchronous processes that share the weights (§4: 8). A training with one worker can be
    repeated exactly, and the other cores can train other variants. A training with more workers ends sooner,
    but its weights differ from run to run. On a GPU one process plays all episodes."""

    environments: Positive = 64
    """Number of episodes that a worker plays side by side."""

    unroll: Positive = 3
    """Number of steps between two updates (§4: 30)."""

    accelerator: Accelerator | None = Accelerator()
    """What a GPU trains with instead. With `null` it plays the episodes of all workers as they are."""

    episode_steps: Positive = 100
    """An episode is cut off after this many steps (§4: 500)."""

    episodes_per_pair: Positive = 2
    """Number of episodes that are played on a pair before a new pair is drawn."""

    exploring_starts: Fraction = 0.75
    """Fraction of the episodes that start on the way to the truth instead of at the perturbed pose (0 in the
    paper)."""

    action_sizes: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0,)
    """Sizes of the actions. Each gives eight: so many px in x and y, degrees, and steps of 0.05 of scale, in
    both directions (§3.2: 1 alone)."""

    terminal_distance: NonNegative = 1.0
    """An episode succeeds, and ends, when D falls below this, in px for `LME`. With 0 it goes on to the step
    limit, and the agent learns to stay where it is right."""

    goal_steps: Annotated[float, Field(ge=1)] = 1.0
    """Mean number of steps below the `terminal_distance` after which an episode ends. With 1 it ends at the
    first, as in the paper, and the agent never learns what to do, or what a state is worth, beyond it."""

    terminal_reward: float = 10.0
    """Reward of a success."""

    learning_rate: PositiveFloat = 1.3e-3
    """Learning rate of Adam (§4: 0.0001)."""

    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Momentum of Adam. The late gradients of several workers act as momentum already. With Adam's usual 0.9
    learning starts much later at this learning rate."""

    warmup_fraction: Fraction = 0.06
    """Fraction of the training over which the learning rate rises from 0. Without it one training in twelve
    did not begin to learn, and with two workers more than half of the trainings did not."""

    final_learning_rate_fraction: Fraction = 0.1
    """The learning rate falls linearly to this fraction of its highest value at the end of the training."""

    reduction: Literal["mean", "sum"] = "mean"
    """Whether the loss of an update is the mean or the `sum` over its steps and episodes (the paper's sums).
    Adam undoes such a factor. What it changes is how often `gradient_clip` acts."""

    gradient_clip: PositiveFloat = 0.5
    """Largest norm of a gradient."""

    rescale_values: bool = True
    """`true` learns the stopping value, by which an agent stops, on a compressed scale, because its values
    reach into the thousands."""

    terminal_value_weight: NonNegative = 0.25
    """Weight with which the stopping value also learns the value of the states at which episodes end: the
    terminal reward, or 0 for a supervised agent. The paper's agent never learns the value of these states,
    although it has to stop there."""

    stopping_discount: Fraction = 0.95
    """Discount of the paper's return, which the stopping value predicts. With `reward: paper` the critic is
    the stopping value, and `discount` is used instead."""

    stopping_weight: NonNegative = 0.1
    """Weight of the stopping value in the loss at the end of the training. It grows from 0, because at full
    weight from the start it would dominate the policy in the layers that both share."""

    thresholds: StopThresholds | None = None
    """The values at which the agent stops. `null` finds them on training pairs (`calibration`)."""

    augmentation: Augmentation = Augmentation()
    """Random variations of the training pairs."""

    checkpoint_seconds: PositiveFloat = 60.0
    """Time between two checkpoints in seconds."""

    @property
    def values(self) -> int:
        """The number of values that the network has (see ``agent.networks.AgentNetwork``)."""
        return 1

    def on_accelerator(self) -> Self:
        """Return the settings with which a GPU trains this agent."""
        changes: dict[str, Any] = {"workers": 1, "environments": self.workers * self.environments}
        if own := self.accelerator:
            changes |= {"environments": own.environments, "learning_rate": own.learning_rate}
            changes |= {"steps": round(own.steps_factor * self.steps)}
        return self.model_copy(update=changes)


class ReinforcementAgent(Agent):
    """An agent trained by A3C (§3.4)."""

    learner: Literal["reinforcement"]
    """`reinforcement` trains an agent by A3C (§3.4)."""

    reward: Literal["potential", "paper"] = "potential"
    """`paper`: −D after each step. `potential`: D before the step minus D after it, which is learned far
    sooner."""

    reward_scale: PositiveFloat = 0.3
    """Factor on the potential reward."""

    all_actions: bool = True
    """`true` learns from the potential reward of every action that could have been taken, as the simulation
    knows them all. `false` learns from that of the action taken alone, as the paper does."""

    discount: Fraction = 0.7
    """Discount γ of each step (§4: 0.99)."""

    trace_decay: Fraction = 0.7
    """Decay λ of the advantages of the potential reward. 1 is the n-step return, which the paper's reward
    always uses."""

    value_weight: NonNegative = 0.05
    """Weight of ½(R − V)² in the loss."""

    normalise_advantages: bool = True
    """`true` gives the advantages of an update mean 0 and variance 1."""

    entropy_weight: NonNegative = 0.01
    """Weight β of the policy's entropy in the loss (§4: 0.1)."""

    @property
    def values(self) -> int:
        """Two values, the critic of the shaped reward and the stopping value, or one that serves as both."""
        return 2 if self.reward == "potential" else 1


class SupervisedAgent(Agent):
    """An agent that is shown the best action of each step (§3.5)."""

    learner: Literal["supervised"]
    """`supervised` shows an agent the best action of each step (§3.5)."""

    acts: Literal["expert", "policy"] = "expert"
    """Who takes the steps of the training. `expert`: the best action, as in the paper. `policy`: the agent's
    own policy, so that it learns in the states where it ends up itself (Ross et al., 2011)."""

    ends_when_stuck: bool = True
    """`true` also ends an episode where no action lowers D. The expert has nothing to show there. With
    `false` it goes to and fro between two poses until the episode is cut off."""

    label_temperature: NonNegative = 0.0
    """With 0 the best action alone is right. Else another whose D is higher by this much, in the units of D,
    is right with 1/e of its probability."""


class Regressor(Model):
    """Pure SL: a network that predicts the pose in a single step (§4)."""

    learner: Literal["regression"]
    """`regression` is pure SL: a network that predicts the pose in a single step (§4)."""

    steps: Positive = 6_000
    """Number of updates."""

    batch: Positive = 32
    """Number of pairs in an update."""

    learning_rate: PositiveFloat = 1e-3
    """Learning rate of Adam at the start. It falls as a cosine."""

    augmentation: Augmentation = Augmentation()
    """Random variations of the training pairs."""

    checkpoint_seconds: PositiveFloat = 60.0
    """Time between two checkpoints in seconds."""


class ResidualRegressor(Model):
    """A network that predicts, from any pose, the rest of the way to the truth and its length D."""

    learner: Literal["residual"]
    """`residual` is a network that predicts, from any pose, the rest of the way to the truth and its length
    D. It registers by itself, and finishes the agents whose names end in `-fine`."""

    steps: Positive = 5_000
    """Number of updates."""

    batch: Positive = 32
    """Number of starts in an update."""

    looks: Positive = 4
    """Number of looks from each start, each from where the last one saw the truth."""

    width: Positive = 2
    """Layers 1 to 3 have so many times the channels of Table 1."""

    near: Fraction = 0.6
    """Fraction of the starts within 3 px, 3° and 0.05 of scale of the truth."""

    exploring_starts: Fraction = 0.75
    """Fraction of the others that lie on the way to the truth instead of at the perturbed pose."""

    starts: PerturbationRange = PerturbationRange(translation_px=30, rotation_deg=90)
    """The perturbations of the images."""

    learning_rate: PositiveFloat = 1e-3
    """Highest learning rate of Adam. It falls linearly to 0."""

    warmup_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Fraction of the training over which the learning rate rises."""

    gradient_clip: PositiveFloat = 1.0
    """Largest norm of a gradient."""

    augmentation: Augmentation = Augmentation()
    """Random variations of the training pairs."""

    checkpoint_seconds: PositiveFloat = 60.0
    """Time between two checkpoints in seconds."""


class Matching(Model):
    """The network that finds the places of a CT slice in the MR, and predicts how far off it is."""

    learner: Literal["matching"]
    """`matching` is a network that finds the places of a CT slice in the MR. It registers by itself, and
    finishes the agents whose names end in `-fine`."""

    steps: Positive = 6_000
    """Number of updates, about half of them at half the resolution."""

    batch: Positive = 8
    """Number of starts in an update, twice as many at half the resolution. Two share a pair."""

    channels: Positive = 24
    """Channels of its convolutions at half the resolution of the images, twice as many at a quarter."""

    features: Positive = 24
    """Numbers that tell how a place looks."""

    reach: Positive = 6
    """A place is sought within so many times two pixels along each axis."""

    near: Fraction = 0.3
    """Fraction of the starts that are off by at most 0.15 of the largest error."""

    starts: PerturbationRange = PerturbationRange(translation_px=30, rotation_deg=90)
    """The perturbations of the images."""

    learning_rate: PositiveFloat = 2e-3
    """Highest learning rate of Adam. It falls linearly to 0."""

    warmup_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """Fraction of the training over which the learning rate rises."""

    gradient_clip: PositiveFloat = 1.0
    """Largest norm of a gradient."""

    augmentation: Augmentation = Augmentation()
    """Random variations of the training pairs."""

    checkpoint_seconds: PositiveFloat = 60.0
    """Time between two checkpoints in seconds."""


class CubeSettings(Model):
    """A network of whole heads in space, and how it learns on pairs of cubes."""

    steps: Positive = 4_000
    """Number of updates."""

    batch: Positive = 32
    """Number of starts in an update."""

    near: Fraction = 0.4
    """Fraction of the starts that are off by at most 0.15 of the largest error."""

    translation_mm: NonNegative = 60.0
    """Largest error along each axis in mm."""

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 75.0
    """Largest rotation about a random axis in degrees. From one of the 24 starts of a registration no head is
    farther than 63°."""

    learning_rate: PositiveFloat = 1e-3
    """Highest learning rate of Adam. It falls linearly to 0."""

    warmup_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """Fraction of the training over which the learning rate rises."""

    gradient_clip: PositiveFloat = 1.0
    """Largest norm of a gradient."""

    augmentation: CubeAugmentation = CubeAugmentation()
    """Random variations of the training pairs."""

    checkpoint_seconds: PositiveFloat = 60.0
    """Time between two checkpoints in seconds."""


class CubeRegressor(CubeSettings):
    """The residual regressor of whole heads: it predicts the rest of the way in space, and its length D."""

    learner: Literal["cubes"]
    """`cubes` is the residual regressor of whole heads in space. It registers volumes."""

    shrink: Positive = 2
    """Its voxels are so many times as wide as those of the cubes."""

    channels: list[Positive] = [16, 32, 32]
    """Channels of its convolutions, each of stride 2."""

    places: NonNegativeInt = 0
    """Channels of the layers that predict how far off each place of the cube is, as for slices."""

    turned: Fraction = 0.2
    """Fraction of the starts that are turned by more than `rotation_deg`, up to 180°. Looks from a
    wrong one of the 24 starts of a registration may end upside down, and there, too, D must be known."""

    unlike: Fraction = 0.15
    """Fraction of the pairs whose cubes do not belong together, as for slices."""

    looks: Positive = 3
    """Number of looks from each start, each from where the last one saw the truth."""


class PlaneMatching(CubeSettings):
    """The network that finds the places of planes through the CT in the MR. It finishes a registration."""

    learner: Literal["planes"]
    """`planes` is the network that finds the places of planes through the CT in the MR. It finishes what
    those of `cubes` find."""

    channels: Positive = 24
    """Channels of its convolutions at half the resolution of the cubes, twice as many at a quarter."""

    features: Positive = 24
    """Numbers that tell how a place looks."""

    reach: Positive = 4
    """A place is sought within so many times two voxels along each axis."""

    planes: Positive = 2
    """Number of planes of each orientation that it learns on, in an update."""

    batch: Positive = 8
    """Number of starts in an update."""

    near: Fraction = 0.3
    """Fraction of the starts that are off by at most 0.15 of the largest error."""

    translation_mm: NonNegative = 12.0
    """Largest error along each axis in mm."""

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 12.0
    """Largest rotation of a start in degrees."""

    learning_rate: PositiveFloat = 2e-3
    """Highest learning rate of Adam. It falls linearly to 0."""


class Pretrained(Model):
    """An agent that was trained in another run: its file agent.pt.

    It registers as its file says, whatever this run's `inference` is, but for the size of its batches.
    """

    learner: Literal["pretrained"]
    """`pretrained` takes an agent of another run."""

    model: str
    """Path of the agent's file, `results/{run}/models/{variant}/seed{n}/agent.pt` of that run."""


AgentSettings = ReinforcementAgent | SupervisedAgent
FinisherSettings = ResidualRegressor | Matching
RegressorSettings = Regressor | ResidualRegressor | Matching | CubeRegressor | PlaneMatching
Variant = Annotated[AgentSettings | RegressorSettings | Pretrained, Field(discriminator="learner")]


def agent_settings(settings: Mapping[str, Any]) -> AgentSettings:
    """Return an agent's entry of ``variants`` from plain values, as the model that its ``learner`` names.

    Raises pydantic's ``ValidationError``.
    """
    return TypeAdapter(Annotated[AgentSettings, Field(discriminator="learner")]).validate_python(settings)


def regressor_settings(settings: Mapping[str, Any]) -> RegressorSettings:
    """Return a regressor's entry of ``variants``, as ``agent_settings`` returns an agent's."""
    return TypeAdapter(Annotated[RegressorSettings, Field(discriminator="learner")]).validate_python(settings)
