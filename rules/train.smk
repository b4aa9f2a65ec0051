# One training a variant and seed, or an agent from elsewhere, and the stop threshold of each (§3.4 to §3.6).
# A training keeps its checkpoints under state/, which is no output: they survive a killed job.


rule train_agent:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        split=results("split.tsv"),
    output:
        model=results("models/{variant}/seed{seed}/model.pt"),
        training=results("models/{variant}/seed{seed}/training.csv"),
    log:
        results("logs/train_agent/{variant}-seed{seed}.log"),
    benchmark:
        results("benchmarks/train_agent/{variant}-seed{seed}.tsv")
    wildcard_constraints:
        variant=any_of(REINFORCED),
    priority: 50
    conda:
        "../envs/regagent.yaml"
    threads: variant_threads
    resources:
        mem_mb=6000,
        gpu=GPU,
    params:
        code=code("train_agent"),
        settings=variant_settings,
        ranges=SETTINGS.perturbations.E1.model_dump(mode="json"),
        seed=lambda wildcards: int(wildcards.seed),
        state=results("state/{variant}/seed{seed}"),
    message:
        "{wildcards.variant}, seed {wildcards.seed}: training by reinforcement"
    script:
        "../workflow_scripts/train_agent.py"


rule train_supervised:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        split=results("split.tsv"),
    output:
        model=results("models/{variant}/seed{seed}/model.pt"),
        training=results("models/{variant}/seed{seed}/training.csv"),
    log:
        results("logs/train_supervised/{variant}-seed{seed}.log"),
    benchmark:
        results("benchmarks/train_supervised/{variant}-seed{seed}.tsv")
    wildcard_constraints:
        variant=any_of(SUPERVISED),
    priority: 40
    conda:
        "../envs/regagent.yaml"
    threads: variant_threads
    resources:
        mem_mb=6000,
        gpu=GPU,
    params:
        code=code("train_supervised"),
        settings=variant_settings,
        ranges=SETTINGS.perturbations.E1.model_dump(mode="json"),
        seed=lambda wildcards: int(wildcards.seed),
        state=results("state/{variant}/seed{seed}"),
    message:
        "{wildcards.variant}, seed {wildcards.seed}: training on the best actions"
    script:
        "../workflow_scripts/train_supervised.py"


rule train_regressor:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        split=results("split.tsv"),
    output:
        model=results("models/{variant}/seed{seed}/model.pt"),
        training=results("models/{variant}/seed{seed}/training.csv"),
    log:
        results("logs/train_regressor/{variant}-seed{seed}.log"),
    benchmark:
        results("benchmarks/train_regressor/{variant}-seed{seed}.tsv")
    wildcard_constraints:
        variant=any_of(REGRESSORS),
    priority: 30
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        gpu=GPU,
    params:
        code=code("train_regressor"),
        settings=variant_settings,
        ranges=SETTINGS.perturbations.E1.model_dump(mode="json"),
        seed=lambda wildcards: int(wildcards.seed),
        state=results("state/{variant}/seed{seed}"),
    message:
        "{wildcards.variant}, seed {wildcards.seed}: training a one-shot regression"
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
        variant=any_of(PRETRAINED),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("import_agent"),
        settings=section("slices"),
    message:
        "{wildcards.variant}: taking over the agent {input.agent}"
    script:
        "../workflow_scripts/import_agent.py"


rule calibrate_threshold:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        split=results("split.tsv"),
        model=results("models/{variant}/seed{seed}/model.pt"),
    output:
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
        calibration=results("models/{variant}/seed{seed}/calibration.csv"),
    log:
        results("logs/calibrate_threshold/{variant}-seed{seed}.log"),
    wildcard_constraints:
        variant=any_of(AGENTS),
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
        ranges=SETTINGS.perturbations.E1.model_dump(mode="json"),
    message:
        "{wildcards.variant}, seed {wildcards.seed}: finding the threshold of the stop rule"
    script:
        "../workflow_scripts/calibrate_threshold.py"
