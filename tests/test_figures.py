"""Every figure draws from a small invented run: files are there, show something, and repeat byte for byte."""

import json
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from agents import make_pairs

from regagent.evaluation.measuring import registration_table
from regagent.evaluation.run_tables import read_models
from regagent.figures import examples, training_pairs
from regagent.figures.comparisons import (
    capture_range,
    draw_accuracy_time,
    draw_capture_range,
    draw_error_distribution,
    draw_rotation_range,
    looks,
    rotation_range,
    wilson_interval,
)
from regagent.figures.examples import (
    choose_examples,
    draw_figure4,
    draw_worst_cases,
    summarise_preregistration,
)
from regagent.figures.training import draw_calibration, draw_figure5, draw_training, over_seeds, smooth
from regagent.figures.training_pairs import draw_training_pairs
from regagent.files import STYLE, UserError
from regagent.geometry import IDENTITY, POSE, compose, invert
from regagent.pairs.slices import read_cohort
from regagent.settings import Augmentation

SIZE = 168
COLUMNS = ["Elastix", "SL-matrix", "RL-LME-MC", "pure-SL"]
METHODS = [
    *("Initial", "SIFT", "Elastix", "pure-SL", "SL-matrix", "SL-matrix-MC", "SL-LME", "SL-LME-MC"),
    *("RL-matrix", "RL-matrix-MC", "RL-LME", "RL-LME-MC", "RL-LME-fine", "RL-LME-MC+Elastix", "CNN-LME-MC"),
    "RL-LME-memoryless",
    *("Elastix-multistart", "MI-search+Elastix", "SimpleITK-MI", "of-ones-own"),
]
FAMILIES = {
    method: {"SL": "supervised agents", "RL": "reinforcement agents", "CNN": "reinforcement agents"}.get(
        method.split("-")[0], "without an agent"
    )
    for method in METHODS
}
WIDE = ["SIFT", "Elastix", "SL-LME-MC", "RL-LME", "RL-LME-MC", "MI-search+Elastix"]
#: Error of an invented result: px of shift, and the share of cases that are left where they started.
QUALITY = {"SIFT": (4.0, 0.8), "Elastix": (0.6, 0.2), "pure-SL": (4.0, 0.0), "SL-matrix": (1.5, 0.1)}


def ellipse(x: float, y: float, a: float, b: float) -> np.ndarray:
    ys, xs = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return ((xs - x) / a) ** 2 + ((ys - y) / b) ** 2 < 1


def write_phantom(path: Path, rng: np.random.Generator) -> None:
    """Write slice pairs of ellipses: scalp, skull, brain, ventricles, one asymmetric lesion."""
    mr, ct, heads = [], [], []
    for number in range(6):
        a, b = 52 + 3 * number, 66 + 2 * number + rng.uniform(-2, 2)
        layers = [(ellipse(0, 0, a, b), 0.8, 0.09), (ellipse(0, 0, a - 5, b - 5), 0.1, 0.85)]
        layers += [(ellipse(0, 0, a - 10, b - 10), 0.55, 0.2), (ellipse(-9, -5, 6, 18), 0.15, 0.17)]
        layers += [(ellipse(9, -5, 6, 18), 0.15, 0.17), (ellipse(22, 25, 9, 7), 0.95, 0.23)]
        layers += [(ellipse(0, 50, 12, 8), 0.02, 0.02)]
        images = np.zeros((2, SIZE, SIZE), np.float32)
        for mask, bright, dense in layers:
            images[0][mask], images[1][mask] = bright, dense
        images += rng.normal(0, [[[0.03]], [[0.01]]], images.shape)
        mr.append(images[0].clip(0, 1))
        ct.append(images[1].clip(0, 1))
        heads.append(layers[0][0])
    points = np.stack(np.meshgrid([-30.0, 0.0, 30.0], [-40.0, 0.0, 40.0]), -1).reshape(-1, 2)
    points = np.repeat(points[None].astype(np.float32), 6, axis=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path, patient=path.stem, mr=np.stack(mr).astype(np.float32), ct=np.stack(ct).astype(np.float32),
        head=np.stack(heads), tissue=np.stack(heads).astype(np.uint8), slice_index=np.arange(6) * 15,
        mm_per_px=1.5, landmarks=points, evaluation_points=points, landmark_source=np.full(6, "sift"),
    )  # fmt: skip


def invented_poses(rng: np.random.Generator, truth: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    shift, lost = QUALITY.get(method, (0.8, 0.02))
    noise = np.concatenate([rng.normal(0, shift, (len(truth), 3)), rng.normal(1, 0.01, (len(truth), 1))], 1)
    poses = compose(noise, truth)
    status = np.full(len(truth), "registered", dtype=object)
    stays = rng.random(len(truth)) < (1.0 if method == "Initial" else lost)
    poses[stays] = IDENTITY
    if method != "Initial":
        status[stays] = "failed" if method in ("SIFT", "Elastix") else "refused"
    return poses, status


def write_run(run: Path, patients: int = 6, per_slice: int = 4) -> Path:
    """Write an invented run folder: slices, perturbations, registrations, trainings, calibrations."""
    rng = np.random.default_rng(4)
    paths = [run / "slices" / f"P{number:03d}.npz" for number in range(1, patients + 1)]
    for path in paths:
        write_phantom(path, rng)
    cohort = read_cohort(paths)
    for set_name, shift, turn in (("E1", 25, 30), ("E2", 30, 45), ("wide", 30, 90)):
        cases = pd.DataFrame(
            [(path.stem, number) for path in paths for number in range(6) for _ in range(per_slice)],
            columns=["patient", "slice"],
        )
        cases.insert(0, "case", np.arange(len(cases)))
        cases[["tx", "ty"]] = rng.integers(-shift, shift + 1, (len(cases), 2))
        cases["angle"] = rng.integers(-turn, turn + 1, len(cases))
        cases["scale"] = rng.integers(15, 26, len(cases)) / 20
        cases["seed"] = 7
        (run / "perturbations").mkdir(exist_ok=True)
        cases.to_csv(run / "perturbations" / f"{set_name}.csv", index=False)
        truth = invert(cases[POSE].to_numpy(dtype=float))
        for method in METHODS:
            for seed in [1] if "-" in method else [0]:
                poses, status = invented_poses(rng, truth, method)
                table = registration_table(cases, poses, cohort, rng.integers(5, 80, len(cases)), 0.1, status)
                path = run / "registrations" / method / f"seed{seed}" / f"{set_name}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                table.to_csv(path, index=False)
    for speed, variant in enumerate(("RL-LME", "RL-matrix", "CNN-LME", "CNN-matrix", "SL-LME", "SL-matrix")):
        write_training(run / "models" / variant / "seed1", rng, 1 + 0.5 * speed)
    folder = run / "models" / "pure-SL" / "seed1"
    folder.mkdir(parents=True)
    step = np.arange(0, 6000, 50)
    loss = np.exp(-step / 2000) + rng.uniform(0.05, 0.1, len(step))
    pd.DataFrame({"step": step, "seconds": step / 20, "loss": loss}).to_csv(
        folder / "training.csv", index=False
    )
    for path in paths:
        folder = run / "preregistered" / path.stem
        folder.mkdir(parents=True)
        mean = rng.uniform(0.1, 0.6)
        quality = {
            "patient": path.stem,
            "error_mean_mm": mean,
            "error_max_mm": 2.5 * mean,
            "overlap": 0.97,
        }
        (folder / "quality.json").write_text(json.dumps(quality))
    return run


def write_training(folder: Path, rng: np.random.Generator, pace: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    count = 3000
    learned = 1 - np.exp(-np.arange(count) / (400 * pace))
    success = rng.random(count) < learned
    steps = np.where(success, rng.gamma(4, 12 + 20 * (1 - learned)), 150).clip(2, 150).astype(int)
    pd.DataFrame(
        {
            "worker": np.arange(count) % 2,
            "episode": np.arange(count) // 2,
            "env_step": np.cumsum(steps),
            "seconds": np.cumsum(steps) / 700,
            "steps": steps,
            "reward": -steps * rng.gamma(3, 2 + 5 * (1 - learned)) + 10 * success,
            "distance": np.where(success, 0.8, 12.0),
            "success": success.astype(int),
        }
    ).to_csv(folder / "training.csv", index=False)
    threshold = np.linspace(-2, 12, 25)
    frames = []
    for lookahead in (False, True):
        mean = 1.2 + 0.03 * (threshold - 8) ** 2 - 0.1 * lookahead
        frames.append(
            pd.DataFrame({"threshold": threshold, "mean_px": mean, "median_px": 0.7 * mean})
            .assign(stopped=1 / (1 + np.exp(threshold - 9)), chosen=mean == mean.min(), lookahead=lookahead)
        )  # fmt: skip
    pd.concat(frames).to_csv(folder / "calibration.csv", index=False)


def registrations(run: Path, sets: str = "E[12]", methods: list[str] | None = None) -> list[Path]:
    names = methods or METHODS
    return [path for name in names for path in sorted(run.glob(f"registrations/{name}/seed*/{sets}.csv"))]


def draw(
    name: str,
    run: Path,
    folder: Path,
    suffixes: tuple[str, ...] = ("pdf", "png"),
    columns: list[str] = COLUMNS[1:3],
) -> list[Path]:
    """Draw one of the figures of the run into a folder and return all files it wrote."""
    outputs = [folder / f"{name}.{suffix}" for suffix in suffixes]
    training = sorted(run.glob("models/*/seed*/training.csv"))
    if name == "figure4":
        draw_figure4(
            sorted(run.glob("slices/*.npz")), run / "perturbations/E2.csv",
            registrations(run, "E2", columns), columns, STYLE, outputs,
        )  # fmt: skip
    elif name == "figure5":
        panels = [[folder / f"figure5{panel}.{suffix}" for suffix in suffixes] for panel in "abcd"]
        draw_figure5([p for p in training if "pure-SL" not in str(p)], STYLE, outputs, panels)
        outputs += [path for pair in panels for path in pair]
    elif name == "capture_range":
        draw_capture_range(registrations(run), FAMILIES, STYLE, outputs)
    elif name == "rotation_range":
        draw_rotation_range(
            registrations(run, "wide", WIDE), run / "perturbations/wide.csv",
            {method: FAMILIES[method] for method in WIDE}, STYLE, outputs,
        )  # fmt: skip
    elif name == "error_distribution":
        draw_error_distribution(registrations(run), FAMILIES, STYLE, outputs)
    elif name == "accuracy_time":
        draw_accuracy_time(registrations(run), FAMILIES, STYLE, outputs)
    elif name == "worst_cases":
        draw_worst_cases(
            sorted(run.glob("slices/*.npz")), run / "perturbations/E2.csv",
            registrations(run, "E2", columns), columns, "RL-LME-MC", STYLE, outputs,
        )  # fmt: skip
    elif name == "training":
        draw_training(training, STYLE, outputs)
    elif name == "calibration":
        draw_calibration(sorted(run.glob("models/RL-*/seed*/calibration.csv")), STYLE, outputs)
    elif name == "preregistration":
        quality = sorted(run.glob("preregistered/*/quality.json"))
        summarise_preregistration(quality, STYLE, folder / "preregistration.csv", outputs)
    return outputs


FIGURES = (
    *("figure4", "figure5", "capture_range", "error_distribution", "accuracy_time", "worst_cases"),
    *("training", "calibration", "preregistration", "rotation_range"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("name", FIGURES)
def test_draws_something_and_repeats(name, run, tmp_path):
    for path in draw(name, run, tmp_path / "first"):
        if path.suffix == ".png":
            image = matplotlib.image.imread(path)[..., :3]
            assert image.std() > 0.05 and min(image.shape[:2]) > 150, path.name
        else:
            assert path.read_bytes().startswith(b"%PDF") and b"CreationDate" not in path.read_bytes()
    for path in draw(name, run, tmp_path / "second", ("pdf",)):
        assert path.read_bytes() == (tmp_path / "first" / path.name).read_bytes(), path.name


def test_no_text_is_smaller_than_eight_points():
    sizes = {
        key: value
        for key, value in matplotlib.rc_params_from_file(STYLE, use_default_template=False).items()
        if key.endswith("size") and not key.startswith(("figure.fig", "lines."))
    }
    assert len(sizes) >= 8 and min(map(float, sizes.values())) >= 8, sizes


def test_no_two_methods_look_alike():
    seen = {tuple(map(str, look.values())) for look in looks(FAMILIES).values()}
    assert len(seen) == len(METHODS) - 1  # the initial pose is no method


def test_several_seeds_become_a_band(tmp_path):
    rng = np.random.default_rng(5)
    for variant in ("RL-LME", "CNN-LME"):
        for seed in (1, 2):
            write_training(tmp_path / "models" / variant / f"seed{seed}", rng, 1.0)
    tables = read_models(sorted(tmp_path.glob("models/*/seed*/training.csv")))
    grid, curves = over_seeds(tables["RL-LME"], "steps", "env_step")
    assert curves.shape == (2, len(grid)) and grid[-1] <= min(
        t["env_step"].max() for t in tables["RL-LME"].values()
    )
    assert all(path.exists() for path in draw("figure5", tmp_path, tmp_path, ("png",)))


def test_the_worst_cases_are_those_of_the_highest_error(run, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "regagent.figures.examples._draw_case", lambda _, __, case, *rest: shown.append(case.name)
    )
    draw("worst_cases", run, tmp_path, ("png",))
    errors = pd.read_csv(run / "registrations/RL-LME-MC/seed1/E2.csv").set_index("case")["tre_px"]
    assert shown == errors.nlargest(5).index.tolist()


def test_examples_stand_at_the_quantiles_and_are_of_different_patients():
    cases = pd.DataFrame(
        {
            "case": range(100),
            "patient": [f"P{n % 10:03d}" for n in range(100)],
            "initial_px": np.arange(100.0),
        }
    )
    chosen = choose_examples(cases.sample(frac=1, random_state=0))
    assert len(chosen) == 5 and cases.set_index("case").loc[chosen, "patient"].is_unique
    assert np.abs(np.array(chosen) - [10, 30, 50, 70, 90]).max() <= 5


def test_examples_repeat_patients_only_when_they_must():
    cases = pd.DataFrame(
        {"case": range(4), "patient": ["P001", "P001", "P001", "P002"], "initial_px": range(4)}
    )
    assert sorted(choose_examples(cases)) == [0, 1, 2, 3]


def test_wilson_interval_of_known_counts():
    low, high = wilson_interval(np.array([0, 5, 10]), np.array([10, 10, 10]))
    assert np.allclose(low, [0.0, 0.2366, 0.7225], atol=1e-4) and np.allclose(
        high, [0.2775, 0.7634, 1.0], atol=1e-4
    )


def test_capture_range_counts_two_pixels_as_success():
    results = pd.DataFrame(
        {
            "method": "A",
            "set": "E1",
            "case": range(4),
            "initial_px": [1.0, 2.0, 15.0, 99.0],
            "tre_px": [2.0, 2.1, 0.5, 50.0],
        }
    )
    table = capture_range(results)
    assert table["n"].tolist() == [2, 1, 1] and table["share"].tolist() == [0.5, 1, 0]
    # Another training of the same method has no other cases.
    again = capture_range(pd.concat([results, results.assign(tre_px=0.0)]))
    assert again["n"].tolist() == [2, 1, 1] and again["share"].tolist() == [0.75, 1, 0.5]


def test_the_capture_range_over_rotations_does_not_tell_left_from_right():
    perturbations = pd.DataFrame({"case": [0, 1, 2, 3], "angle": [-10.0, 12.0, -40.0, 90.0]})
    results = pd.DataFrame(
        {"method": "A", "set": "wide", "case": [3, 2, 1, 0], "tre_px": [9.0, 1.0, 2.0, 2.1]}
    )
    table = rotation_range(results, perturbations)
    assert table["n"].tolist() == [2, 1, 1] and table["share"].tolist() == [0.5, 1, 0]
    assert table["rotation_deg"].tolist() == [11.0, 40.0, 90.0]


def test_smoothing_keeps_the_length_and_a_constant():
    assert smooth(pd.Series(np.full(50, 3.0))).tolist() == [3.0] * 50


def test_a_faulty_training_names_the_file_and_the_column(run, tmp_path):
    path = tmp_path / "models" / "RL-LME" / "seed1" / "training.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame({"worker": [0], "episode": [0]}).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"RL-LME.*no column env_step"):
        draw_figure5([path], STYLE, [], [])


def test_figure4_names_a_method_without_registrations(run, tmp_path):
    with pytest.raises(UserError, match="no registrations of Other"):
        draw_figure4([], run / "perturbations/E2.csv", registrations(run, "E2"), ["Other"], STYLE, [])


def test_examples_are_cases_of_all_methods(run, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(examples, "_draw_cases", lambda *arguments: shown.append(set(arguments[3])))
    paths = registrations(run, "E2", COLUMNS[1:3])
    every = {case for path in paths for case in pd.read_csv(path)["case"]}
    first = pd.read_csv(paths[0]).query("case % 2 == 0")
    paths[0] = tmp_path / Path(*paths[0].parts[-4:])
    paths[0].parent.mkdir(parents=True)
    first.to_csv(paths[0], index=False)
    draw_worst_cases([], "", paths, COLUMNS[1:3], COLUMNS[2], STYLE, [])
    draw_figure4([], "", paths, COLUMNS[1:3], STYLE, [])
    assert all(cases and cases <= set(first["case"]) < every for cases in shown)


def test_preregistration_of_patients_without_truth(tmp_path):
    paths = []
    for patient in ("P001", "P002"):
        paths.append(tmp_path / patient / "quality.json")
        paths[-1].parent.mkdir()
        paths[-1].write_text(json.dumps({"overlap": 0.95, "error_mean_mm": None}))
    summarise_preregistration(paths, STYLE, tmp_path / "table.csv", [tmp_path / "figure.png"])
    assert pd.read_csv(tmp_path / "table.csv")["patient"].tolist() == ["P001", "P002"]


def test_the_pairs_of_a_training_are_drawn_as_it_draws_them(tmp_path, monkeypatch):
    pairs = make_pairs(2)
    monkeypatch.setattr(training_pairs, "read_pairs", lambda slices, split, subset: pairs)
    shown = {}
    plain = Augmentation(enabled=False)
    for name, settings in (("one", Augmentation()), ("again", Augmentation()), ("plain", plain)):
        draw_training_pairs([], "", settings, STYLE, [tmp_path / f"{name}.png"])
        shown[name] = matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3].mean(-1)
    assert np.array_equal(shown["one"], shown["again"]) and not np.array_equal(shown["one"], shown["plain"])
    height, width = shown["plain"].shape
    assert 1.7 < width / height < 2.3 and shown["plain"].min() == 0 and shown["plain"].max() == 1
