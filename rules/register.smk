# Every method registers every case of both sets; one table a method, seed and set.


rule register_initial:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/{set}.csv"),
    output:
        registrations=results("registrations/Initial/seed0/{set}.csv"),
    log:
        results("logs/register_initial/{set}.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("register_initial"),
    message:
        "{wildcards.set}: measuring the error before registration"
    script:
        "../workflow_scripts/register_initial.py"


rule register_sift:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/{set}.csv"),
    output:
        registrations=results("registrations/SIFT/seed0/{set}.csv"),
    log:
        results("logs/register_sift/{set}.log"),
    benchmark:
        results("benchmarks/register_sift/{set}.tsv")
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("register_sift"),
        settings=section("baselines"),
    message:
        "{wildcards.set}: registering by SIFT"
    script:
        "../workflow_scripts/register_sift.py"


rule register_elastix:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/{set}.csv"),
        parameter_map=map_file(SETTINGS.baselines.elastix_parameter_map),
    output:
        registrations=results("registrations/Elastix/seed0/{set}.csv"),
    log:
        results("logs/register_elastix/{set}.log"),
    benchmark:
        results("benchmarks/register_elastix/{set}.tsv")
    priority: 60  # slow, and ready long before the agents are: not to be the last to end
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        code=code("register_elastix"),
    message:
        "{wildcards.set}: registering by 2D Elastix"
    script:
        "../workflow_scripts/register_elastix.py"


rule register_multistart:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/{set}.csv"),
        parameter_map=map_file(SETTINGS.baselines.multistart_parameter_map),
    output:
        registrations=results("registrations/Multistart-Elastix/seed0/{set}.csv"),
    log:
        results("logs/register_multistart/{set}.log"),
    benchmark:
        results("benchmarks/register_multistart/{set}.tsv")
    priority: 60
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        code=code("register_multistart"),
        rotations_deg=SETTINGS.baselines.multistart_rotations_deg,
        scales=SETTINGS.baselines.multistart_scales,
    message:
        "{wildcards.set}: registering by 2D Elastix from several starts"
    script:
        "../workflow_scripts/register_multistart.py"


rule register_search:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/{set}.csv"),
    output:
        registrations=results("registrations/MI-search/seed0/{set}.csv"),
    log:
        results("logs/register_search/{set}.log"),
    benchmark:
        results("benchmarks/register_search/{set}.tsv")
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("register_search"),
        settings=section("baselines")["search"],
    message:
        "{wildcards.set}: searching the highest mutual information"
    script:
        "../workflow_scripts/register_search.py"


rule register_simpleitk:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/{set}.csv"),
    output:
        registrations=results("registrations/SimpleITK/seed0/{set}.csv"),
    log:
        results("logs/register_simpleitk/{set}.log"),
    benchmark:
        results("benchmarks/register_simpleitk/{set}.tsv")
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("register_simpleitk"),
    message:
        "{wildcards.set}: registering by SimpleITK"
    script:
        "../workflow_scripts/register_simpleitk.py"


rule register_regressor:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/{set}.csv"),
        model=results("models/{variant}/seed{seed}/model.pt"),
    output:
        registrations=results("registrations/{variant}/seed{seed}/{set}.csv"),
    log:
        results("logs/register_regressor/{variant}-seed{seed}-{set}.log"),
    wildcard_constraints:
        variant=any_of(REGRESSORS),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=GPU,
    params:
        code=code("register_regressor"),
    message:
        "{wildcards.set}: registering by {wildcards.variant}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/register_regressor.py"


rule register_agent:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/{set}.csv"),
        model=results("models/{variant}/seed{seed}/model.pt"),
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
    output:
        registrations=results("registrations/{variant}{lookahead}/seed{seed}/{set}.csv"),
    log:
        results("logs/register_agent/{variant}{lookahead}-seed{seed}-{set}.log"),
    benchmark:
        results("benchmarks/register_agent/{variant}{lookahead}-seed{seed}-{set}.tsv")
    wildcard_constraints:
        variant=any_of([*AGENTS, *PRETRAINED]),
        lookahead="|-MC",
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=GPU,
    params:
        code=code("register_agent"),
        inference=section("inference"),
        lookahead=lambda wildcards: wildcards.lookahead == "-MC",
        seed=lambda wildcards: int(wildcards.seed),
    message:
        "{wildcards.set}: registering by {wildcards.variant}{wildcards.lookahead}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/register_agent.py"


rule refine_registrations:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/{set}.csv"),
        registrations=results("registrations/{method}/seed{seed}/{set}.csv"),
        parameter_map=map_file(SETTINGS.baselines.refinement_parameter_map),
    output:
        registrations=results(
            f"registrations/{{method}}{REFINED}/seed{{seed}}/{{set}}.csv"
        ),
    log:
        results("logs/refine_registrations/{method}-seed{seed}-{set}.log"),
    benchmark:
        results("benchmarks/refine_registrations/{method}-seed{seed}-{set}.tsv")
    wildcard_constraints:
        method=any_of(
            [
                *(*CONVENTIONAL, *REGRESSORS, *AGENTS, *PRETRAINED),
                *(f"{name}-MC" for name in [*AGENTS, *PRETRAINED]),
            ]
        ),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        code=code("refine_registrations"),
    message:
        "{wildcards.set}: finishing {wildcards.method} by Elastix, seed {wildcards.seed}"
    script:
        "../workflow_scripts/refine_registrations.py"


rule export_agent:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        split=results("split.tsv"),
        model=results("models/{variant}/seed{seed}/model.pt"),
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
        registrations=[
            results(f"registrations/{{variant}}-MC/seed{{seed}}/{name}.csv")
            for name in SETS
        ],
    output:
        agent=results("models/{variant}/seed{seed}/agent.pt"),
    log:
        results("logs/export_agent/{variant}-seed{seed}.log"),
    wildcard_constraints:
        variant=any_of(AGENTS),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("export_agent"),
        training_code=lambda wildcards: {
            script: code(script)
            for script in (
                (
                    "train_agent"
                    if wildcards.variant in REINFORCED
                    else "train_supervised"
                ),
                "calibrate_threshold",
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


rule walk_episode:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        perturbations=results("perturbations/E2.csv"),
        model=results("models/{variant}/seed{seed}/model.pt"),
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
    output:
        episode=results("episodes/{variant}-MC/seed{seed}.csv"),
    log:
        results("logs/walk_episode/{variant}-MC-seed{seed}.log"),
    wildcard_constraints:
        variant=any_of([*AGENTS, *PRETRAINED]),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("walk_episode"),
        inference=section("inference"),
        seed=lambda wildcards: int(wildcards.seed),
    message:
        "walking {wildcards.variant}-MC through one case, seed {wildcards.seed}"
    script:
        "../workflow_scripts/walk_episode.py"
