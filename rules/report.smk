# Results for readers: Table 2, Figures 4 and 5, tables and figures beside the paper's, and the provenance.


rule make_table2:
    input:
        registrations=PLAN.registrations(SETTINGS.methods),
        reference="config/reference/table2.csv",
    output:
        csv=results("tables/table2.csv"),
        markdown=results("tables/table2.md"),
        latex=results("tables/table2.tex"),
        html=report(
            results("tables/table2.html"),
            caption="captions/table2.rst",
            category="Accuracy",
            labels={"result": "Table 2", "shows": "the error of every method"},
        ),
    log:
        results("logs/make_table2.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("make_table2"),
        methods=SETTINGS.methods,
    message:
        "making Table 2"
    script:
        "../workflow_scripts/make_table2.py"


rule make_table2_statistics:
    input:
        registrations=PLAN.registrations(SETTINGS.methods),
        reference="config/reference/table2.csv",
    output:
        csv=results("tables/table2_statistics.csv"),
        markdown=results("tables/table2_statistics.md"),
        latex=results("tables/table2_statistics.tex"),
        html=report(
            results("tables/table2_statistics.html"),
            caption="captions/table2_statistics.rst",
            category="Accuracy",
            labels={"result": "statistics", "shows": "intervals, tests, worst cases"},
        ),
    log:
        results("logs/make_table2_statistics.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        code=code("make_table2_statistics"),
        methods=SETTINGS.methods,
    message:
        "making the statistics beside Table 2"
    script:
        "../workflow_scripts/make_table2_statistics.py"


rule make_case_table:
    input:
        registrations=PLAN.registrations(SETTINGS.methods),
        perturbations=expand(results("perturbations/{set}.csv"), set=SETS),
    output:
        cases=results("tables/cases.csv"),
    log:
        results("logs/make_case_table.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("make_case_table"),
    message:
        "gathering every case in one table"
    script:
        "../workflow_scripts/make_case_table.py"


rule make_claims:
    input:
        registrations=PLAN.registrations(SETTINGS.methods),
        trainings=PLAN.of_models("training.csv", PLAN.figure5),
    output:
        csv=results("tables/claims.csv"),
        markdown=results("tables/claims.md"),
        html=report(
            results("tables/claims.html"),
            caption="captions/claims.rst",
            category="Accuracy",
            labels={
                "result": "claims",
                "shows": "what the paper says, and what this run says",
            },
        ),
    log:
        results("logs/make_claims.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("make_claims"),
        inference=section("inference"),
    message:
        "testing the paper's claims on this run"
    script:
        "../workflow_scripts/make_claims.py"


rule write_results:
    input:
        table2=results("tables/table2.csv"),
        table2_markdown=results("tables/table2.md"),
        statistics=results("tables/table2_statistics.csv"),
        statistics_markdown=results("tables/table2_statistics.md"),
        claims=results("tables/claims.csv"),
    output:
        page=results("tables/results.md"),
    log:
        results("logs/write_results.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        code=code("write_results"),
        run=SETTINGS.run,
    message:
        "writing the page of results"
    script:
        "../workflow_scripts/write_results.py"


rule draw_figure4:
    input:
        slices=SLICES,
        perturbations=results("perturbations/E2.csv"),
        registrations=PLAN.examples("E2"),
        style=STYLE,
    output:
        pdf=results("figures/figure4.pdf"),
        png=report(
            results("figures/figure4.png"),
            caption="captions/figure4.rst",
            category="Examples",
            labels={"figure": "Figure 4", "shows": "examples of E2 by method"},
        ),
    log:
        results("logs/draw_figure4.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_figure4"),
        methods=PLAN.figure4,
    message:
        "drawing Figure 4"
    script:
        "../workflow_scripts/draw_figure4.py"


rule draw_worst_cases:
    input:
        slices=SLICES,
        perturbations=results("perturbations/E2.csv"),
        registrations=PLAN.examples("E2"),
        style=STYLE,
    output:
        pdf=results("figures/worst_cases.pdf"),
        png=report(
            results("figures/worst_cases.png"),
            caption="captions/worst_cases.rst",
            category="Examples",
            labels={"figure": "worst cases", "shows": f"where {PROPOSED} fails most"},
        ),
    log:
        results("logs/draw_worst_cases.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_worst_cases"),
        judged=PROPOSED,
        methods=PLAN.figure4,
    message:
        "drawing the worst cases"
    script:
        "../workflow_scripts/draw_worst_cases.py"


rule draw_episode:
    input:
        episode=results(f"episodes/{PROPOSED}/seed{SETTINGS.seeds[0]}.csv"),
        slices=SLICES,
        perturbations=results("perturbations/E2.csv"),
        style=STYLE,
    output:
        pdf=results("figures/episode.pdf"),
        png=report(
            results("figures/episode.png"),
            caption="captions/episode.rst",
            category="Examples",
            labels={"figure": "episode, film strip", "shows": "one case step by step"},
        ),
    log:
        results("logs/draw_episode.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_episode"),
    message:
        "drawing an episode as a film strip"
    script:
        "../workflow_scripts/draw_episode.py"


rule animate_episode:
    input:
        episode=results(f"episodes/{PROPOSED}/seed{SETTINGS.seeds[0]}.csv"),
        slices=SLICES,
        perturbations=results("perturbations/E2.csv"),
        style=STYLE,
    output:
        gif=results("figures/episode.gif"),
        page=report(
            results("figures/episode.html"),
            caption="captions/episode.rst",
            category="Examples",
            labels={"figure": "episode, animated", "shows": "the agent at work"},
        ),
    log:
        results("logs/animate_episode.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("animate_episode"),
    message:
        "animating an episode"
    script:
        "../workflow_scripts/animate_episode.py"


rule draw_figure5:
    input:
        training=PLAN.of_models("training.csv", PLAN.figure5),
        style=STYLE,
    output:
        pdf=results("figures/figure5.pdf"),
        png=report(
            results("figures/figure5.png"),
            caption="captions/figure5.rst",
            category="Training",
            labels={"figure": "Figure 5", "shows": "all panels"},
        ),
        panels_pdf=[results(f"figures/figure5{name}.pdf") for name in FIGURE5_PANELS],
        panels_png=[
            report(
                results(f"figures/figure5{name}.png"),
                caption="captions/figure5.rst",
                category="Training",
                labels={
                    "figure": f"Figure 5{name}",
                    "shows": f"{' and '.join(panel.variants)}: {panel.label}",
                },
            )
            for name, panel in FIGURE5_PANELS.items()
        ],
    log:
        results("logs/draw_figure5.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_figure5"),
    message:
        "drawing Figure 5"
    script:
        "../workflow_scripts/draw_figure5.py"


rule draw_capture_range:
    input:
        registrations=PLAN.registrations(SETTINGS.methods),
        style=STYLE,
    output:
        pdf=results("figures/capture_range.pdf"),
        png=report(
            results("figures/capture_range.png"),
            caption="captions/capture_range.rst",
            category="Accuracy",
            labels={
                "result": "capture range",
                "shows": "success against the initial error",
            },
        ),
    log:
        results("logs/draw_capture_range.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_capture_range"),
        families=PLAN.families,
    message:
        "drawing the capture range"
    script:
        "../workflow_scripts/draw_capture_range.py"


rule draw_rotation_range:
    input:
        registrations=PLAN.registrations(SETTINGS.wide_methods, [WIDE]),
        perturbations=results(f"perturbations/{WIDE}.csv"),
        style=STYLE,
    output:
        pdf=results("figures/rotation_range.pdf"),
        png=report(
            results("figures/rotation_range.png"),
            caption="captions/rotation_range.rst",
            category="Accuracy",
            labels={
                "result": "capture range, rotation",
                "shows": "success against the rotation of the start",
            },
        ),
    log:
        results("logs/draw_rotation_range.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_rotation_range"),
        families={name: PLAN.families[name] for name in SETTINGS.wide_methods},
    message:
        "drawing the capture range over rotations"
    script:
        "../workflow_scripts/draw_rotation_range.py"


rule draw_error_distribution:
    input:
        registrations=PLAN.registrations(SETTINGS.methods),
        style=STYLE,
    output:
        pdf=results("figures/error_distribution.pdf"),
        png=report(
            results("figures/error_distribution.png"),
            caption="captions/error_distribution.rst",
            category="Accuracy",
            labels={
                "result": "error distribution",
                "shows": "how many cases end within an error",
            },
        ),
    log:
        results("logs/draw_error_distribution.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_error_distribution"),
        families=PLAN.families,
    message:
        "drawing the distribution of the errors"
    script:
        "../workflow_scripts/draw_error_distribution.py"


rule draw_accuracy_time:
    input:
        registrations=PLAN.registrations(SETTINGS.methods),
        style=STYLE,
    output:
        pdf=results("figures/accuracy_time.pdf"),
        png=report(
            results("figures/accuracy_time.png"),
            caption="captions/accuracy_time.rst",
            category="Accuracy",
            labels={
                "result": "accuracy and time",
                "shows": "error against seconds a case",
            },
        ),
    log:
        results("logs/draw_accuracy_time.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_accuracy_time"),
        families=PLAN.families,
    message:
        "drawing the error against the time"
    script:
        "../workflow_scripts/draw_accuracy_time.py"


rule draw_training:
    input:
        training=PLAN.of_models("training.csv", PLAN.trained),
        style=STYLE,
    output:
        pdf=results("figures/training.pdf"),
        png=report(
            results("figures/training.png"),
            caption="captions/training.rst",
            category="Training",
            labels={
                "figure": "training",
                "shows": "success rate and loss of every training",
            },
        ),
    log:
        results("logs/draw_training.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_training"),
    message:
        "drawing the progress of the trainings"
    script:
        "../workflow_scripts/draw_training.py"


rule draw_calibration:
    input:
        calibrations=PLAN.of_models("calibration.csv", PLAN.calibrated),
        style=STYLE,
    output:
        pdf=results("figures/calibration.pdf"),
        png=report(
            results("figures/calibration.png"),
            caption="captions/calibration.rst",
            category="Training",
            labels={
                "figure": "calibration",
                "shows": "the error against the stop threshold",
            },
        ),
    log:
        results("logs/draw_calibration.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("draw_calibration"),
    message:
        "drawing how the stop thresholds were found"
    script:
        "../workflow_scripts/draw_calibration.py"


rule draw_cohort:
    input:
        mr=expand(results("volumes/{patient}/mr.nii.gz"), patient=PATIENTS[:6]),
        ct=expand(results("preregistered/{patient}/ct.nii.gz"), patient=PATIENTS[:6]),
        style=STYLE,
    output:
        pdf=results("figures/cohort.pdf"),
        png=report(
            results("figures/cohort.png"),
            caption="captions/cohort.rst",
            category="Patients",
            subcategory="Cohort",
            labels={"figure": "cohort", "shows": "slices of the first patients"},
        ),
    log:
        results("logs/draw_cohort.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        code=code("draw_cohort"),
    message:
        "drawing the cohort"
    script:
        "../workflow_scripts/draw_cohort.py"


rule draw_training_pairs:
    input:
        slices=SLICES,
        split=results("split.tsv"),
        style=STYLE,
    output:
        pdf=results("figures/training_pairs.pdf"),
        png=report(
            results("figures/training_pairs.png"),
            caption="captions/training_pairs.rst",
            category="Training",
            labels={"figure": "training pairs", "shows": "what an agent learns from"},
        ),
    log:
        results("logs/draw_training_pairs.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        code=code("draw_training_pairs"),
        augmentation=lambda wildcards: SETTINGS.variants[
            PLAN.trained[0]
        ].augmentation.model_dump(mode="json"),
    message:
        "drawing what an agent is trained on"
    script:
        "../workflow_scripts/draw_training_pairs.py"


rule summarise_preregistration:
    input:
        quality=expand(
            results("preregistered/{patient}/quality.json"), patient=PATIENTS
        ),
        style=STYLE,
    output:
        table=report(
            results("tables/preregistration.csv"),
            caption="captions/preregistration.rst",
            category="Patients",
            subcategory="Pre-registration",
            labels={"figure": "table", "patient": "all"},
        ),
        pdf=results("figures/preregistration.pdf"),
        png=report(
            results("figures/preregistration.png"),
            caption="captions/preregistration.rst",
            category="Patients",
            subcategory="Pre-registration",
            labels={"figure": "error", "patient": "all"},
        ),
    log:
        results("logs/summarise_preregistration.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("summarise_preregistration"),
    message:
        "summarising the pre-registration"
    script:
        "../workflow_scripts/summarise_preregistration.py"


rule write_summary:
    input:
        registrations=PLAN.registrations(SETTINGS.methods),
        split=results("split.tsv"),
    output:
        text=results("tables/summary.rst"),
    log:
        results("logs/write_summary.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("write_summary"),
        families=PLAN.families,
    message:
        "writing the summary of the report's first page"
    script:
        "../workflow_scripts/write_summary.py"


rule write_provenance:
    input:
        data=[
            *expand(
                results("volumes/{patient}/{modality}.nii.gz"),
                patient=PATIENTS,
                modality=["mr", "ct"],
            ),
            results("split.tsv"),
            *expand(results("perturbations/{set}.csv"), set=PLAN.sets),
            *PLAN.of_models("model.pt", [*PLAN.trained, *PLAN.imported]),
            *PLAN.of_models(
                "trusted.pt", [name for name in PLAN.trained if name in PLAN.finishers]
            ),
        ],
        results=PLAN.targets,
    output:
        provenance=results("provenance.json"),
        footer=results("provenance.rst"),
    log:
        results("logs/write_provenance.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        config=SETTINGS.model_dump(mode="json"),
        code={script.stem: code_hash(script) for script in SCRIPTS},
    message:
        "recording the provenance of the results"
    script:
        "../workflow_scripts/write_provenance.py"
