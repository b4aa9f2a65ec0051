# Every method registers every case of both sets, and writes one table per method, seed and set.


rule register_initial:
    input:
        slices=SLICES,
        perturbations=cases_of(UNREGISTERED),
    output:
        registrations=results(f"registrations/{UNREGISTERED}/seed0/{{set}}.csv"),
    log:
        results("logs/register_initial/{set}.log"),
    benchmark:
        results("benchmarks/register_initial/{set}.tsv")
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        code=code("register_initial"),
    message:
        "{wildcards.set}: measuring the error before registration"
    script:
        "../workflow_scripts/register_initial.py"


rule register_sift:
    input:
        slices=SLICES,
        perturbations=cases_of("SIFT"),
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
        mem_mb=1500,
    params:
        code=code("register_sift"),
        settings=section("baselines"),
    message:
        "{wildcards.set}: registering by SIFT"
    script:
        "../workflow_scripts/register_sift.py"


rule register_search:
    input:
        slices=SLICES,
        perturbations=cases_of("MI-search"),
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
        "{wildcards.set}: searching for the highest mutual information"
    script:
        "../workflow_scripts/register_search.py"


rule register_simpleitk:
    input:
        slices=SLICES,
        perturbations=cases_of("SimpleITK"),
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


rule register_elastix:
    input:
        slices=SLICES,
        perturbations=cases_of("Elastix"),
        parameter_map=map_file(SETTINGS.baselines.elastix_parameter_map),
    output:
        registrations=results("registrations/Elastix/seed0/{set}.csv"),
    log:
        results("logs/register_elastix/{set}.log"),
    benchmark:
        results("benchmarks/register_elastix/{set}.tsv")
    priority: 60  # slow, and possible long before the agents are trained: the run should not end with it
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
        slices=SLICES,
        perturbations=cases_of("Multistart-Elastix"),
        parameter_map=map_file(SETTINGS.baselines.multistart_parameter_map),
    output:
        registrations=results("registrations/Multistart-Elastix/seed0/{set}.csv"),
    log:
        results("logs/register_multistart/{set}.log"),
    benchmark:
        results("benchmarks/register_multistart/{set}.tsv")
    priority: 60  # slow, and possible long before the agents are trained: the run should not end with it
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


rule refine_registrations:
    input:
        slices=SLICES,
        perturbations=cases_of(f"{{method}}{REFINED}"),
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
                *(*CONVENTIONAL, *SETTINGS.variants),
                *(
                    f"{name}{ending}"
                    for name in [*PLAN.agents, *PLAN.pretrained]
                    for ending in (LOOKAHEAD, MEMORYLESS, FINE)
                ),
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
        "{wildcards.set}: refining {wildcards.method} by Elastix, seed {wildcards.seed}"
    script:
        "../workflow_scripts/refine_registrations.py"


rule register_regressor:
    input:
        slices=SLICES,
        perturbations=cases_of("{variant}"),
        model=lambda wildcards: PLAN.regressor(wildcards.variant, int(wildcards.seed)),
    output:
        registrations=results("registrations/{variant}/seed{seed}/{set}.csv"),
    log:
        results("logs/register_regressor/{variant}-seed{seed}-{set}.log"),
    benchmark:
        results("benchmarks/register_regressor/{variant}-seed{seed}-{set}.tsv")
    wildcard_constraints:
        variant=any_of(PLAN.regressors),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=GPU,
    params:
        code=code("register_regressor"),
        learner=lambda wildcards: SETTINGS.variants[wildcards.variant].learner,
        inference=section("inference"),
    message:
        "{wildcards.set}: registering by {wildcards.variant}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/register_regressor.py"


rule register_agent:
    input:
        slices=SLICES,
        perturbations=cases_of("{variant}"),
        model=results("models/{variant}/seed{seed}/model.pt"),
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
    output:
        greedy=results("registrations/{variant}/seed{seed}/{set}.csv"),
        lookahead=results(
            f"registrations/{{variant}}{LOOKAHEAD}/seed{{seed}}/{{set}}.csv"
        ),
    log:
        results("logs/register_agent/{variant}-seed{seed}-{set}.log"),
    benchmark:
        results("benchmarks/register_agent/{variant}-seed{seed}-{set}.tsv")
    wildcard_constraints:
        variant=any_of([*PLAN.agents, *PLAN.pretrained]),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=GPU,
    params:
        code=code("register_agent"),
        inference=section("inference"),
        seed=lambda wildcards: int(wildcards.seed),
    message:
        "{wildcards.set}: registering by {wildcards.variant}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/register_agent.py"


rule register_memoryless:
    input:
        slices=SLICES,
        perturbations=cases_of(f"{{variant}}{MEMORYLESS}"),
        model=results("models/{variant}/seed{seed}/model.pt"),
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
    output:
        registrations=results(
            f"registrations/{{variant}}{MEMORYLESS}/seed{{seed}}/{{set}}.csv"
        ),
    log:
        results("logs/register_memoryless/{variant}-seed{seed}-{set}.log"),
    benchmark:
        results("benchmarks/register_memoryless/{variant}-seed{seed}-{set}.tsv")
    wildcard_constraints:
        variant=any_of(PLAN.agents),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=GPU,
    params:
        code=code("register_memoryless"),
        inference=section("inference"),
    message:
        "{wildcards.set}: registering by {wildcards.variant} without its memory, seed {wildcards.seed}"
    script:
        "../workflow_scripts/register_memoryless.py"


rule register_fine:
    input:
        slices=SLICES,
        perturbations=cases_of(f"{{variant}}{FINE}"),
        model=results("models/{variant}/seed{seed}/model.pt"),
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
        finisher=lambda wildcards: PLAN.finisher(wildcards.variant, int(wildcards.seed)),
    output:
        registrations=results(
            f"registrations/{{variant}}{FINE}/seed{{seed}}/{{set}}.csv"
        ),
    log:
        results("logs/register_fine/{variant}-seed{seed}-{set}.log"),
    benchmark:
        results("benchmarks/register_fine/{variant}-seed{seed}-{set}.tsv")
    wildcard_constraints:
        variant=any_of([*PLAN.agents, *PLAN.pretrained]),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=GPU,
    params:
        code=code("register_fine"),
        inference=section("inference"),
    message:
        f"{{wildcards.set}}: registering by {{wildcards.variant}}{FINE}, seed {{wildcards.seed}}"
    script:
        "../workflow_scripts/register_fine.py"


rule walk_episode:
    input:
        slices=SLICES,
        perturbations=results("perturbations/E2.csv"),
        model=results("models/{variant}/seed{seed}/model.pt"),
        threshold=results("models/{variant}/seed{seed}/threshold.json"),
    output:
        episode=results(f"episodes/{{variant}}{LOOKAHEAD}/seed{{seed}}.csv"),
    log:
        results(f"logs/walk_episode/{{variant}}{LOOKAHEAD}-seed{{seed}}.log"),
    benchmark:
        results(f"benchmarks/walk_episode/{{variant}}{LOOKAHEAD}-seed{{seed}}.tsv")
    wildcard_constraints:
        variant=any_of([*PLAN.agents, *PLAN.pretrained]),
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
        "{wildcards.variant} with look-ahead, seed {wildcards.seed}: recording an episode"
    script:
        "../workflow_scripts/walk_episode.py"
