"""What an agent says of its own errors, on heads that it never saw: pairs of which half are broken.

The pairs are cut from the heads of config/trust.yaml, with all of the agent's augmentation and more, and
perturbed as in E2. Broken are those whose images do not belong together (another patient's or another slice's
MR, a mirrored or an upside-down one, two CTs, a CT and noise), and those whose MR has lost the brain: these
still have a truth. A score refuses well if it refuses what is worse than 5 px and nothing that is right.
Writes results/trust/cases.csv and trust.{csv,pdf,png}.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from regagent.agent.agent_file import TrainedAgent, load_for
from regagent.agent.inference import register_finely
from regagent.agent.networks import from_blocks
from regagent.agent.starts import draw_starts
from regagent.agent.trust import judge, to_evaluate, true_error
from regagent.conventional.grid_search import mutual_information_at
from regagent.evaluation.registrations import SUCCESS_PX
from regagent.figures.style import BLUE, FULL_WIDTH, GREY, VERMILION, save, styled
from regagent.files import STYLE, write_table
from regagent.pairs.contrasts import INSIDE, shows
from regagent.pairs.training_pairs import Pool, read_pairs
from regagent.phantom.tissues import AIR, LABELS
from regagent.settings import Augmentation, Perturbations, Slices

FOLDER = Path("results/trust")
#: Cases of each kind, and the part of them whose images do not belong together.
KINDS = {"whole": (480, 0.0), "unlike": (560, 1.0), "no brain": (80, 0.0)}
SEED = 5
BATCH = 80
WORSE_PX = 5.0
#: So many good cases may be refused, and so many bad ones have to be.
GOOD_REFUSED, BAD_REFUSED = 0.05, 0.95


def main() -> None:
    """Draw the pairs, register them and tell how well they were judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agent", help="the agent file")
    agent = load_for(parser.parse_args().agent, Slices())
    torch.set_num_threads(1)
    if not agent.finisher:
        sys.exit("error: no network finishes this agent, so it predicts no error")
    cases = tried(agent)
    write_table(cases, FOLDER / "cases.csv")
    summary = judged(cases)
    write_table(summary, FOLDER / "trust.csv")
    draw(cases)
    print(summary.to_string(index=False))


def tried(agent: TrainedAgent) -> pd.DataFrame:
    """Return a row a case: its kind, what the agent expects, and the truth, NaN where there is none."""
    slices = sorted((FOLDER / "slices").glob("*.npz"))
    split = FOLDER / "everyone.tsv"
    split.write_text("patient\tset\n" + "".join(f"{path.stem}\ttest\n" for path in slices))
    generator = torch.Generator().manual_seed(SEED)
    whole = to_evaluate(read_pairs(slices, split, "test"), generator.device)
    pools = {"whole": whole, "unlike": whole, "no brain": without_brain(whole)}
    rows = []
    batches = [
        (kind, min(BATCH, count - first), unlike)
        for kind, (count, unlike) in KINDS.items()
        for first in range(0, count, BATCH)
    ]
    network, finisher = agent.network, agent.finisher
    level, inference, augmentation = agent.facts.thresholds.lookahead, agent.facts.inference, turned_up(agent)
    assert finisher
    for kind, count, unlike in tqdm(batches):
        starts = draw_starts(
            pools[kind], augmentation, Perturbations().E2, count, 1, generator, unlike=unlike
        )
        fixed, moving = from_blocks(starts.fixed).numpy(), starts.moving.numpy()
        found = register_finely(network, finisher, fixed, moving, level, inference)
        judgement = judge(finisher, -found.value)
        information = [mutual_information_at(*one) for one in zip(fixed, moving, found.pose, strict=True)]
        batch = pd.DataFrame({"kind": kind, "accepted": found.stopped, **judgement._asdict()})
        batch["mutual_information"], batch["closeness"] = information, found.value
        batch["tre_px"] = true_error(starts, found.pose)
        rows.append(batch)
    return pd.concat(rows, ignore_index=True)


def turned_up(agent: TrainedAgent) -> Augmentation:
    """Return the agent's augmentation with everything in most of the pairs."""
    learned = Augmentation.model_validate(agent.facts.training["settings"]["augmentation"])
    more = {"contrast": 0.9, "lesions": 0.5, "stripped": 0.1, "ghosts": 0.3, "ct_window": 0.25, "cut": 0.2}
    return learned.model_copy(update=more)


def without_brain(pool: Pool) -> Pool:
    """Return pairs whose MR shows air in place of the brain."""
    brain = shows(pool.tissue, INSIDE)
    tissue = torch.where(brain, torch.tensor(LABELS[AIR], dtype=torch.uint8), pool.tissue)
    return pool._replace(mr=pool.mr * ~brain, tissue=tissue)


def good_and_bad(cases: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return which cases are within ``SUCCESS_PX``, and which are beyond ``WORSE_PX`` or have no truth."""
    return cases.tre_px <= SUCCESS_PX, ~(cases.tre_px <= WORSE_PX)


def curve(cases: pd.DataFrame, score: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the parts of the good and of the bad cases that each threshold of a score refuses."""
    good, bad = good_and_bad(cases)
    levels = np.sort(cases[score].unique())
    levels = np.append(levels, np.inf)
    refused = [np.searchsorted(np.sort(cases[score][which]), levels) / which.sum() for which in (good, bad)]
    return refused[0], refused[1]


def judged(cases: pd.DataFrame) -> pd.DataFrame:
    """Return a row a measure: its value, and what it has to be."""
    good, bad = good_and_bad(cases)
    rows = [
        ("pairs", len(cases), ">= 1000"),
        ("good: within 2 px", good.sum(), ""),
        ("bad: worse than 5 px, or without truth", bad.sum(), ""),
        ("bad ones refused by the command", (~cases.accepted[bad]).mean(), f">= {BAD_REFUSED}"),
        ("good ones refused by the command", (~cases.accepted[good]).mean(), f"<= {GOOD_REFUSED}"),
    ]
    for score in ("closeness", "mutual_information"):
        of_good, of_bad = curve(cases, score)
        there = of_bad[of_good <= GOOD_REFUSED].max()
        rows.append((f"bad ones refused where 5 % of the good are: {score}", there, f">= {BAD_REFUSED}"))
    taken = cases[cases.accepted & cases.tre_px.notna()]
    rows += [
        (f"{kind}: worse than 5 px and accepted", (cases.accepted & bad & (cases.kind == kind)).sum(), "")
        for kind in KINDS
    ]
    ratio = taken.tre_px.mean() / taken.expected.mean()
    rows.append(("mean error over the expected one, accepted cases", ratio, "0.8 to 1.2"))
    return pd.DataFrame(rows, columns=["measure", "value", "bar"])


def in_groups(cases: pd.DataFrame, by: str, what: pd.Series, count: int = 8) -> pd.DataFrame:
    """Return the means of a column and of what it foretells, in groups of as many cases."""
    groups = pd.qcut(cases[by].rank(method="first"), count)
    return pd.DataFrame({by: cases[by], "true": what}).groupby(groups, observed=True).mean()


def draw(cases: pd.DataFrame) -> None:
    """Draw the ROC curves of the two scores, and the predicted chances and errors beside the true ones."""
    with styled(STYLE):
        figure = Figure(figsize=(FULL_WIDTH, 2.6))
        roc, chance, error = figure.subplots(1, 3)
        scores = (
            ("closeness", "predicted distance", BLUE),
            ("mutual_information", "mutual information", GREY),
        )
        for score, name, colour in scores:
            roc.plot(*curve(cases, score), color=colour, label=name)
        roc.plot([GOOD_REFUSED], [BAD_REFUSED], "x", color=VERMILION, label="bar")
        roc.set(xlabel="good ones refused", ylabel="bad ones refused", xlim=(-0.02, 0.5), ylim=(0.5, 1.01))
        roc.legend(loc="lower right")
        right = in_groups(cases, "probability", (cases.tre_px <= SUCCESS_PX).astype(float))
        chance.plot([0, 1], [0, 1], color=GREY, lw=0.8)
        chance.plot(right.probability, right.true, "o-", color=BLUE)
        chance.set(xlabel="predicted chance of a success", ylabel="part that is one")
        taken = cases[cases.accepted & cases.tre_px.notna()]
        errors = in_groups(taken, "expected", taken.tre_px)
        most = 1.1 * errors.to_numpy().max()
        error.fill_between([0, most], [0, 0.8 * most], [0, 1.2 * most], color=GREY, alpha=0.2, lw=0)
        error.plot([0, most], [0, most], color=GREY, lw=0.8)
        error.plot(errors.expected, errors.true, "o-", color=BLUE)
        error.set(xlabel="expected error (px)", ylabel="mean TRE (px)", xlim=(0, most), ylim=(0, most))
        save(figure, [FOLDER / "trust.pdf", FOLDER / "trust.png"])


if __name__ == "__main__":
    main()
