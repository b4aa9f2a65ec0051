"""The paper's statements about its methods (§4, §5), each with the comparisons that test it on a run."""

from dataclasses import dataclass
from typing import Literal

from regagent.evaluation.statistics import BELOW, BOTH, FARTHER, MINUS, NEARER
from regagent.evaluation.trainings import TRAINING
from regagent.methods import MEMORYLESS

#: As a set: a statistic on E2 minus the same one on E1.
GROWTH = f"E2{MINUS}E1"
#: As sets: a statistic on the nearer half of E1, of E2, beside the same one on the farther half.
HALVES = tuple(f"{NEARER}{name}{BELOW}{FARTHER}{name}" for name in BOTH)
#: Two errors count as alike if they differ by less than this, half of an agent's step.
ALIKE_PX = 0.5


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, in our words, and the comparisons that test it.

    Each pair of methods is compared on each set by each statistic. The claim states the ``relation`` of the
    two values. "lower": the first method's value is lower, by more than ``margin``. "alike": the values
    differ by less than ``margin``. "not lower": the first method's value is not clearly lower. With ``some``
    one comparison for the claim is enough, else all must be for it, on E1 and on E2 each. A claim without
    pairs cannot be tested, and its ``remark`` says why; the remark of any other claim says how it is tested.
    """

    section: str
    says: str
    pairs: tuple[tuple[str, str], ...] = ()
    statistics: tuple[str, ...] = ("mean",)
    sets: tuple[str, ...] = BOTH
    relation: Literal["lower", "alike", "not lower"] = "lower"
    margin: float = 0.0
    some: bool = False
    remark: str = ""


LEARNED = (
    *("pure-SL", "SL-matrix", "SL-matrix-MC", "SL-LME", "SL-LME-MC"),
    *("RL-matrix", "RL-matrix-MC", "RL-LME", "RL-LME-MC"),
)
OTHERS = ("SIFT", "Elastix", *LEARNED[:-1])
REINFORCED = tuple((f"RL-{rest}", f"SL-{rest}") for rest in ("LME", "LME-MC", "matrix", "matrix-MC"))
LANDMARKS = tuple(
    (f"{learner}-LME{rest}", f"{learner}-matrix{rest}") for learner in ("RL", "SL") for rest in ("", "-MC")
)
CAUSE = "it names a cause, and nothing in a run tells this cause from others"
BETTER = "tested as: better, by however little"

CLAIMS = (
    Claim("4", "Every learned method is better than SIFT.", tuple((name, "SIFT") for name in LEARNED)),
    Claim(
        "4",
        "RL-LME-MC is far better than one-shot regression.",
        (("RL-LME-MC", "pure-SL"),),
        remark=BETTER,
    ),
    Claim(
        "4",
        "One-shot regression fails because the two images start too far apart.",
        (("pure-SL", "pure-SL"),),
        sets=HALVES,
        remark="tested as: its error is larger in the half of the cases that start farther apart",
    ),
    Claim(
        "4",
        "Moving step by step is better than one-shot regression, supervised or not.",
        tuple((name, "pure-SL") for name in ("SL-matrix", "SL-matrix-MC", "SL-LME")),
    ),
    Claim(
        "4",
        "RL, the landmark error and the look-ahead each add to RL-LME-MC.",
        tuple(("RL-LME-MC", without) for without in ("SL-LME-MC", "RL-matrix-MC", "RL-LME")),
    ),
    Claim(
        "4",
        "3D Elastix aligns the original pairs very accurately.",
        remark="it speaks of the paper's patients; for those here, see the pre-registration's error",
    ),
    Claim(
        "4",
        "2D Elastix may look better than it is: the truth comes from the same cost function.",
        remark="every error is taken against that one truth",
    ),
    Claim(
        "4",
        "Elastix fails where the deformation is large; RL-LME-MC is more robust there.",
        (("RL-LME-MC", "Elastix"),),
        statistics=("mean", "worst30"),
        sets=tuple(f"{FARTHER}{name}" for name in BOTH),
        remark="tested on the half of the cases that start farther apart",
    ),
    Claim(
        "5",
        "RL-LME-MC is more powerful and more robust than all other methods.",
        tuple(("RL-LME-MC", other) for other in OTHERS),
        statistics=("mean", "p90"),
    ),
    Claim(
        "5.1",
        "A3C needs no replay memory, which would hinder 3D registration.",
        remark="it is so by construction, and nothing here is 3D",
    ),
    Claim(
        "5.1",
        "Without a replay memory the network must represent its input well.",
        remark="no other learner and no measure of representations to hold it against",
    ),
    Claim(
        "5.1",
        "With the LSTM, training converges sooner.",
        (("RL-LME", "CNN-LME"),),
        statistics=("steps an episode", "reward lost an episode"),
        sets=(TRAINING,),
        remark="tested as: means over all episodes of equally long trainings",
    ),
    Claim(
        "5.1",
        "With the LSTM, convergence is more stable.",
        (("RL-LME", "CNN-LME"),),
        statistics=("sd of steps, last tenth",),
        sets=(TRAINING,),
    ),
    Claim(
        "5.1",
        "This comes from the LSTM's account of earlier states.",
        (("RL-LME", f"RL-LME{MEMORYLESS}"),),
        remark="tested as: the trained agent errs more when its memory is emptied before every step",
    ),
    Claim(
        "5.1",
        "Without the LSTM the error is larger.",
        (("RL-LME-MC", "CNN-LME-MC"), ("RL-LME", "CNN-LME")),
    ),
    Claim("5.2", "RL is better than SL.", REINFORCED),
    Claim("5.2", "What RL gains over SL is more on the larger perturbations.", REINFORCED, sets=(GROWTH,)),
    Claim("5.2", "RL learns and generalises so well because it explores more paths.", remark=CAUSE),
    Claim("5.2", "The reward function is fundamental in RL.", remark="too general for a test"),
    Claim(
        "5.2",
        "In Table 2 the landmark error is not significantly better than the matrix distance.",
        LANDMARKS,
        relation="not lower",
        remark="the paper leaves open how the matrix distance weighs rotation and scale",
    ),
    Claim(
        "5.2",
        "In some cases the landmark error does worse than the matrix distance.",
        tuple((matrix, landmarks) for landmarks, matrix in LANDMARKS),
        some=True,
    ),
    Claim(
        "5.2",
        "CNN-matrix fails to converge in the steps in which CNN-LME does.",
        (("CNN-LME", "CNN-matrix"),),
        statistics=("part without terminal, last tenth",),
        sets=(TRAINING,),
        margin=0.5,
        remark="tested as: at the end it misses the terminal in half of all episodes more than CNN-LME",
    ),
    Claim(
        "5.2",
        "CNN-matrix is very unstable.",
        (("CNN-LME", "CNN-matrix"),),
        statistics=("sd of steps, last tenth",),
        sets=(TRAINING,),
    ),
    Claim(
        "5.2",
        "A proper reward can somewhat make up for a weak network.",
        (("CNN-LME", "CNN-matrix"),),
        statistics=("part without terminal, last tenth",),
        sets=(TRAINING,),
    ),
    Claim(
        "5.2",
        "RL profits more from the look-ahead than SL.",
        tuple(
            (f"RL-{distance}-MC{MINUS}RL-{distance}", f"SL-{distance}-MC{MINUS}SL-{distance}")
            for distance in ("LME", "matrix")
        ),
    ),
    Claim("5.2", "RL gains by the look-ahead.", (("RL-LME-MC", "RL-LME"), ("RL-matrix-MC", "RL-matrix"))),
    Claim("5.2", "SL loses by the look-ahead.", (("SL-LME", "SL-LME-MC"), ("SL-matrix", "SL-matrix-MC"))),
    Claim("5.2", "The one acts for future returns, the other greedily.", remark=CAUSE),
    Claim(
        "5.2",
        "The look-ahead's early stop widens the spread of RL-matrix-MC on E2.",
        (("RL-matrix", "RL-matrix-MC"),),
        statistics=("std",),
        sets=("E2",),
    ),
    Claim(
        "5.2",
        "Another threshold would mend that.",
        remark="a run registers with one threshold, which is found on training patients",
    ),
    Claim("5.3", "Elastix is state of the art and widely used.", remark="it speaks of other people's work"),
    Claim(
        "5.3",
        "Elastix does well where the two images start near each other.",
        (("Elastix", "Elastix"),),
        sets=HALVES,
        remark="tested as: its error is smaller in the half of the cases that start nearer",
    ),
    Claim(
        "5.3",
        "On E1, Elastix is better than all others.",
        tuple(("Elastix", other) for other in (*LEARNED, "SIFT")),
        sets=("E1",),
    ),
    Claim(
        "5.3",
        "On E2, Elastix fails.",
        (("Elastix", "Elastix"),),
        sets=(f"E1{BELOW}E2",),
        remark="tested as: its error is larger than on E1",
    ),
    Claim(
        "5.3",
        "On E2, RL-LME-MC is much better than Elastix in the 90th percentile.",
        (("RL-LME-MC", "Elastix"),),
        statistics=("p90",),
        sets=("E2",),
        remark=BETTER,
    ),
    Claim("5.3", "Elastix fails for want of robustness and of semantic understanding.", remark=CAUSE),
    Claim(
        "5.3",
        "On E1, RL-LME-MC and Elastix are alike.",
        (("RL-LME-MC", "Elastix"),),
        statistics=("mean", "std", "p50", "p90"),
        sets=("E1",),
        relation="alike",
        margin=ALIKE_PX,
    ),
    Claim(
        "5.3",
        "On E2, RL-LME-MC is much better than Elastix.",
        (("RL-LME-MC", "Elastix"),),
        sets=("E2",),
        remark=BETTER,
    ),
    Claim(
        "5.3",
        "RL-LME-MC understands what it sees and extrapolates beyond its training.",
        remark="no measure of understanding; that E2 goes beyond the training starts is in Table 2",
    ),
)
