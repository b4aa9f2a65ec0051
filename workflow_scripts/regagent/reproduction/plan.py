"""The plan of a run: the variants that it trains or imports, and the files that its rules make."""

from collections.abc import Iterable

from regagent.methods import (
    CONVENTIONAL,
    FIGURE4_METHODS,
    FIGURE5_PANELS,
    FINE,
    LOOKAHEAD,
    NETWORKS,
    NO_AGENT,
    PROPOSED,
    REFINED,
    variant_of,
)
from regagent.settings import (
    CubeSettings,
    Matching,
    Model,
    Pretrained,
    Regressor,
    ReinforcementAgent,
    ResidualRegressor,
    Settings,
    SupervisedAgent,
)

#: The two sets of perturbed test pairs (§4).
SETS = ("E1", "E2")
#: The set of wider perturbations, on which only ``wide_methods`` are tested.
WIDE = "wide"


class Plan:
    """The variants of a run by what is done with them, and the paths of the run's files.

    Every list keeps the order of the settings. ``trained``: the variants that Table 2 and Figure 5 need.
    ``calibrated``: the agents among them, which get stop thresholds. ``imported``: agents of other runs.
    ``exported``: the agents that other cohorts can use; the run tests these finished or with look-ahead, so
    that their accuracy is known. ``finishers``: the networks that look, one of which finishes agents.
    ``figure4``, ``figure5``: the methods and the variants that these figures can show. ``families``: {method:
    its panel in the figures that compare all methods}. ``sets``: all sets of cases.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.reinforced = self._of_kind(ReinforcementAgent)
        self.supervised = self._of_kind(SupervisedAgent)
        self.finishers = [*self._of_kind(ResidualRegressor), *self._of_kind(Matching)]
        self.regressors = [*self._of_kind(Regressor), *self.finishers]
        self.cubes = self._of_kind(CubeSettings)
        self.pretrained = self._of_kind(Pretrained)
        self.agents = [*self.reinforced, *self.supervised]

        needed = set(map(variant_of, settings.methods)) & settings.variants.keys()
        finished = {variant_of(m) for m in settings.methods if m.removesuffix(REFINED).endswith(FINE)}
        if finished - set(self.pretrained):
            needed |= set(self.finishers)
        panels = {variant for panel in FIGURE5_PANELS.values() for variant in panel.variants}
        # If no method needs a training, none is done for Figure 5 alone.
        trains = bool(needed - set(self.pretrained))
        self.figure5 = [name for name in self.reinforced if name in panels and trains]
        self.figure4 = [name for name in FIGURE4_METHODS if name in settings.methods]
        wanted = needed | set(self.figure5)
        self.trained = [name for name in settings.variants if name in wanted - set(self.pretrained)]
        self.calibrated = [name for name in self.trained if name in self.agents]
        self.imported = [name for name in self.pretrained if name in needed]
        methods = set(settings.methods)
        self.exported = [
            name for name in self.calibrated if {f"{name}{LOOKAHEAD}", f"{name}{FINE}"} & methods
        ]
        self.sets = [*SETS, WIDE] if settings.wide_methods else list(SETS)
        self.families = {method: self._family_of(method) for method in settings.methods}

    def _of_kind(self, kind: type[Model]) -> list[str]:
        return [name for name, variant in self.settings.variants.items() if isinstance(variant, kind)]

    def _family_of(self, method: str) -> str:
        variant = variant_of(method)
        if variant in self.reinforced:
            return "reinforcement agents"
        if variant in self.supervised:
            return "supervised agents"
        return "agents from elsewhere" if variant in self.pretrained else NO_AGENT

    def results(self, path: str) -> str:
        """Return the path of a file of this run."""
        return f"results/{self.settings.run}/{path}"

    def seeds_of(self, method: str) -> list[int]:
        """Return the seeds of a method or variant: those of its trainings, or only 0 without training."""
        untrained = (*CONVENTIONAL, *self.pretrained)
        return [0] if variant_of(method) in untrained else self.settings.seeds

    def finisher(self, variant: str, seed: int) -> str:
        """Return the model that finishes an agent of this seed; an agent from elsewhere brings its own."""
        if variant in self.pretrained:
            return self.results(f"models/{variant}/seed{seed}/finisher.pt")
        return self.regressor(self.finishers[0], seed)

    def regressor(self, variant: str, seed: int) -> str:
        """Return the model by which a regressor registers: one that looks knows what its D is worth."""
        name = "trusted" if variant in self.finishers else "model"
        return self.results(f"models/{variant}/seed{seed}/{name}.pt")

    @property
    def volume_rows(self) -> set[str]:
        """The rows of the table of volumes, and those that refined ones go on from."""
        rows = set(self.settings.volumes.methods)
        return rows | {row.removesuffix(REFINED) for row in rows}

    def volumes_per_patient(self, row: str) -> int:
        """Return how many cases a patient, the first ones, a row of the table of volumes registers."""
        volumes = self.settings.volumes
        slow = {row, row.removesuffix(REFINED)} & {*volumes.slow_methods}
        return min(volumes.slow_per_patient, volumes.per_patient) if slow else volumes.per_patient

    @property
    def volume_models(self) -> list[str]:
        """The models of the networks that register volumes, in their order, of the first seed."""
        names, seed = self.settings.volumes.networks, self.settings.seeds[0]
        return [self.results(f"models/{name}/seed{seed}/model.pt") for name in names]

    @property
    def volume_model(self) -> str:
        """The file of the networks that register volumes: another run's, or of the ``volume_models``."""
        return self.settings.volumes.model or self.results("models/space.pt")

    @property
    def models_from_elsewhere(self) -> dict[str, str]:
        """The files of other runs' models that the run needs, by the key that names them."""
        files = {
            f"variants.{name}.model": variant.model
            for name, variant in self.settings.variants.items()
            if isinstance(variant, Pretrained) and name in self.imported
        }
        model = self.settings.volumes.model
        return {**files, "volumes.model": model} if model and NETWORKS in self.volume_rows else files

    def is_finished(self, variant: str) -> bool:
        """Tell whether another network finishes the agent in a row of its own."""
        return f"{variant}{FINE}" in self.settings.methods

    def proofs(self, variant: str, seed: int) -> list[str]:
        """Return the tables that tell how well an exported agent does: finished, or with the look-ahead."""
        return self._tables(f"{variant}{FINE if self.is_finished(variant) else LOOKAHEAD}", seed, SETS)

    def _tables(self, method: str, seed: int, sets: Iterable[str]) -> list[str]:
        return [self.results(f"registrations/{method}/seed{seed}/{name}.csv") for name in sets]

    def registrations(self, methods: Iterable[str], sets: Iterable[str] = SETS) -> list[str]:
        """Return the tables of registered cases of these methods, one for each seed and set."""
        return [
            table
            for method in methods
            for seed in self.seeds_of(method)
            for table in self._tables(method, seed, sets)
        ]

    def cases(self, method: str, set_name: str) -> str:
        """Return the table of the cases of a set that a method registers: all, or the first of each slice.

        An agent registers them with and without the look-ahead at once.
        """
        short = set_name in SETS and {method, f"{method}{LOOKAHEAD}"} & set(self.settings.slow_methods)
        return self.results(f"perturbations/{'first/' if short else ''}{set_name}.csv")

    def examples(self, set_name: str) -> list[str]:
        """Return the tables of registered cases of a set for Figure 4, of each method's first seed."""
        return [self.registrations([method], [set_name])[0] for method in self.figure4]

    def of_models(self, name: str, variants: Iterable[str]) -> list[str]:
        """Return the files of this name of these variants, one for each seed."""
        return [
            self.results(f"models/{variant}/seed{seed}/{name}")
            for variant in variants
            for seed in self.seeds_of(variant)
        ]

    @property
    def targets(self) -> list[str]:
        """The tables and figures that the run ends with, as far as it has the methods that they show."""
        figures = ["preregistration", "cohort", "capture_range", "error_distribution", "accuracy_time"]
        shown = {
            "worst_cases": PROPOSED in self.settings.methods,
            "episode": PROPOSED in self.settings.methods,
            "figure4": self.figure4,
            "figure5": self.figure5,
            "training": self.trained,
            "training_pairs": self.trained,
            "calibration": self.calibrated,
            "rotation_range": self.settings.wide_methods,
            "volume_range": self.settings.volumes.methods,
            "volume_episode": NETWORKS in self.volume_rows,
        }
        figures += [name for name, there in shown.items() if there]
        tables = [
            *(f"table2.{kind}" for kind in ("csv", "md", "tex", "html")),
            *(f"table2_statistics.{kind}" for kind in ("csv", "md", "tex", "html")),
            *(f"claims.{kind}" for kind in ("csv", "md", "html")),
            *("cases.csv", "results.md", "preregistration.csv", "summary.rst"),
        ]
        if self.settings.volumes.methods:
            tables += ["volumes.csv", "volumes.md"]
        animated = ["figures/episode.gif"] if shown["episode"] else []
        return [
            self.results(path)
            for path in (*(f"tables/{n}" for n in tables), *(f"figures/{n}.pdf" for n in figures), *animated)
        ]
