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
        parameter_map=SETTINGS.baselines.elastix_parameter_map,
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
        variant=any_of(AGENTS),
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
        parameter_map=SETTINGS.baselines.refinement_parameter_map,
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
            [*CONVENTIONAL, *REGRESSORS, *AGENTS, *(f"{name}-MC" for name in AGENTS)]
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
        variant=any_of(AGENTS),
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
