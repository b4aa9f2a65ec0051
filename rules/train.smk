# One training per variant and seed, or an imported agent, and the stop threshold of each (§3.4 to §3.6).
# A training keeps its checkpoints under state/. They are not outputs, so they survive a killed job.


rule train_agent:
    input:
        slices=SLICES,
        split=results("split.tsv"),
    output:
        model=results("models/{variant}/seed{seed}/model.pt"),
        training=results("models/{variant}/seed{seed}/training.csv"),
    log:
        results("logs/train_agent/{variant}-seed{seed}.log"),
    benchmark:
        results("benchmarks/train_agent/{variant}-seed{seed}.tsv")
    wildcard_constraints:
        variant=any_of(PLAN.agents),
    priority: 50
    conda:
        "../envs/regagent.yaml"
    threads: lambda wildcards: SETTINGS.variants[wildcards.variant].workers
    resources:
        mem_mb=6000,
        gpu=GPU,
    params:
        code=code("train_agent"),
        settings=lambda wildcards: SETTINGS.variants[wildcards.variant].model_dump(
            mode="json", exclude={"thresholds"}
        ),
        ranges=SETTINGS.perturbations.E1.model_dump(mode="json"),
        seed=lambda wildcards: int(wildcards.seed),
        state=results("state/{variant}/seed{seed}"),
    message:
        "{wildcards.variant}, seed {wildcards.seed}: training"
    script:
        "../workflow_scripts/train_agent.py"


rule train_regressor:
    input:
        slices=lambda wildcards: CUBES if wildcards.variant in PLAN.cubes else SLICES,
        split=results("split.tsv"),
    output:
        model=results("models/{variant}/seed{seed}/model.pt"),
        training=results("models/{variant}/seed{seed}/training.csv"),
    log:
        results("logs/train_regressor/{variant}-seed{seed}.log"),
    benchmark:
        results("benchmarks/train_regressor/{variant}-seed{seed}.tsv")
    wildcard_constraints:
        variant=any_of([*PLAN.regressors, *PLAN.cubes]),
    priority: 30
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        gpu=GPU,
    params:
        code=code("train_regressor"),
        settings=lambda wildcards: SETTINGS.variants[wildcards.variant].model_dump(
            mode="json"
        ),
        ranges=SETTINGS.perturbations.E1.model_dump(mode="json"),
        seed=lambda wildcards: int(wildcards.seed),
        state=results("state/{variant}/seed{seed}"),
    message:
        "{wildcards.variant}, seed {wildcards.seed}: training"
    script:
        "../workflow_scripts/train_regressor.py"


rule import_agent:
    input:
        agent=lambda wildcards: SETTINGS.variants[wildcards.variant].model,
    output:
        model=results("models/{variant}/seed{seed}/model.pt"),
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
    log:
        results("logs/import_agent/{variant}-seed{seed}.log"),
    wildcard_constraints:
        variant=any_of(PLAN.pretrained),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("import_agent"),
        agent_file=lambda wildcards: fingerprint(
            SETTINGS.variants[wildcards.variant].model
        ),
        settings=section("slices"),
    message:
        "{wildcards.variant}: importing the agent {input.agent}"
    script:
        "../workflow_scripts/import_agent.py"


rule import_finisher:
    input:
        agent=lambda wildcards: SETTINGS.variants[wildcards.variant].model,
    output:
        model=results("models/{variant}/seed{seed}/finisher.pt"),
    log:
        results("logs/import_finisher/{variant}-seed{seed}.log"),
    wildcard_constraints:
        variant=any_of(PLAN.pretrained),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("import_finisher"),
        agent_file=lambda wildcards: fingerprint(
            SETTINGS.variants[wildcards.variant].model
        ),
        settings=section("slices"),
    message:
        "{wildcards.variant}: importing what finishes the agent {input.agent}"
    script:
        "../workflow_scripts/import_finisher.py"


rule calibrate_threshold:
    input:
        slices=SLICES,
        split=results("split.tsv"),
        model=results("models/{variant}/seed{seed}/model.pt"),
    output:
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
        calibration=results("models/{variant}/seed{seed}/calibration.csv"),
    log:
        results("logs/calibrate_threshold/{variant}-seed{seed}.log"),
    wildcard_constraints:
        variant=any_of(PLAN.agents),
    priority: 20
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=GPU,
    params:
        code=code("calibrate_threshold"),
        settings=section("calibration"),
        inference=section("inference"),
        thresholds=lambda wildcards: SETTINGS.variants[wildcards.variant].model_dump(
            mode="json"
        )["thresholds"],
        ranges=SETTINGS.perturbations.E1.model_dump(mode="json"),
    message:
        "{wildcards.variant}, seed {wildcards.seed}: finding the threshold of the stop rule"
    script:
        "../workflow_scripts/calibrate_threshold.py"


rule calibrate_trust:
    input:
        slices=SLICES,
        split=results("split.tsv"),
        model=results("models/{variant}/seed{seed}/model.pt"),
    output:
        model=results("models/{variant}/seed{seed}/trusted.pt"),
        cases=results("models/{variant}/seed{seed}/trust.csv"),
    log:
        results("logs/calibrate_trust/{variant}-seed{seed}.log"),
    wildcard_constraints:
        variant=any_of(PLAN.finishers),
    priority: 20
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        gpu=GPU,
    params:
        code=code("calibrate_trust"),
        settings=section("calibration"),
        inference=section("inference"),
    message:
        "{wildcards.variant}, seed {wildcards.seed}: finding what its predictions are worth"
    script:
        "../workflow_scripts/calibrate_trust.py"


rule export_agent:
    input:
        slices=SLICES,
        split=results("split.tsv"),
        model=results("models/{variant}/seed{seed}/model.pt"),
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
        finisher=lambda wildcards: (
            PLAN.finisher(wildcards.variant, int(wildcards.seed))
            if PLAN.is_finished(wildcards.variant)
            else []
        ),
        registrations=lambda wildcards: PLAN.proofs(
            wildcards.variant, int(wildcards.seed)
        ),
    output:
        agent=results("models/{variant}/seed{seed}/agent.pt"),
    log:
        results("logs/export_agent/{variant}-seed{seed}.log"),
    wildcard_constraints:
        variant=any_of(PLAN.agents),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("export_agent"),
        training_code={
            name: code(name)
            for name in (
                *("train_agent", "calibrate_threshold"),
                *("train_regressor", "calibrate_trust"),
            )
        },
        settings=section("slices"),
        inference=section("inference"),
        run={
            "run": SETTINGS.run,
            "source": SETTINGS.cohort.source,
            "starts": SETTINGS.perturbations.E1.model_dump(mode="json"),
        },
    message:
        "{wildcards.variant}, seed {wildcards.seed}: writing the agent into one file"
    script:
        "../workflow_scripts/export_agent.py"
