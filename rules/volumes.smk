# Whole volumes in space: cubes for the networks, motions of the CT, their registration, the table. Not in the paper.


rule cut_cube:
    input:
        **LABELLED,
        mr=results("volumes/{patient}/mr.nii.gz"),
        ct=results("volumes/{patient}/ct.nii.gz"),
        transform=results("preregistered/{patient}/transform.tfm"),
    output:
        cube=results("cubes/{patient}.npz"),
    log:
        results("logs/cut_cube/{patient}.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        code=code("cut_cube"),
        settings=SETTINGS.volumes.cubes.model_dump(mode="json"),
    message:
        "{wildcards.patient}: cutting cubes"
    script:
        "../workflow_scripts/cut_cube.py"


rule join_networks:
    input:
        **SCANS,
        split=results("split.tsv"),
        models=PLAN.volume_models,
    output:
        model=results("models/space.pt"),
        cases=results("models/space_trust.csv"),
    log:
        results("logs/join_networks.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        gpu=GPU,
    params:
        code=code("join_networks"),
        calibration=section("calibration"),
        settings=SETTINGS.volumes.model_dump(
            mode="json",
            include={
                *("cubes", "V2", "V3", "looks", "further_looks", "kept"),
                *("matching_looks", "matching_planes"),
            },
        ),
    message:
        "finding what the predictions of the networks of volumes are worth"
    script:
        "../workflow_scripts/join_networks.py"


rule perturb_volumes:
    input:
        split=results("split.tsv"),
    output:
        perturbations=results("perturbations/volumes/{motions}.csv"),
    log:
        results("logs/perturb_volumes/{motions}.log"),
    wildcard_constraints:
        motions=any_of(MOTIONS),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("perturb_volumes"),
        settings=lambda wildcards: SETTINGS.volumes.model_dump(
            mode="json", include={"per_patient", "seed", wildcards.motions}
        ),
    message:
        "{wildcards.motions}: drawing the motions of the test patients' volumes"
    script:
        "../workflow_scripts/perturb_volumes.py"


rule register_volumes:
    input:
        **SCANS,
        perturbations=results("perturbations/volumes/{motions}.csv"),
        start=volume_start,
        parameter_map=volume_map,
    output:
        registrations=results("registrations/volumes/{method}/{motions}.csv"),
    log:
        results("logs/register_volumes/{method}-{motions}.log"),
    benchmark:
        results("benchmarks/register_volumes/{method}-{motions}.tsv")
    wildcard_constraints:
        motions=any_of(MOTIONS),
        method=any_of(PLAN.volume_rows - {*BY_NETWORKS}),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        code=code("register_volumes"),
        settings=volume_settings,
        per_patient=lambda wildcards: PLAN.volumes_per_patient(wildcards.method),
    message:
        "{wildcards.motions}: registering volumes by {wildcards.method}"
    script:
        "../workflow_scripts/register_volumes.py"


rule register_volumes_by_networks:
    input:
        **SCANS,
        perturbations=results("perturbations/volumes/{motions}.csv"),
        start=volume_start,
        parameter_map=volume_map,
        model=PLAN.volume_model,
    output:
        registrations=results("registrations/volumes/{method}/{motions}.csv"),
    log:
        results("logs/register_volumes_by_networks/{method}-{motions}.log"),
    benchmark:
        results("benchmarks/register_volumes_by_networks/{method}-{motions}.tsv")
    wildcard_constraints:
        motions=any_of(MOTIONS),
        method=any_of(BY_NETWORKS),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=GPU,
    params:
        code=code("register_volumes_by_networks"),
        settings=volume_settings,
        per_patient=lambda wildcards: PLAN.volumes_per_patient(wildcards.method),
    message:
        "{wildcards.motions}: registering volumes by {wildcards.method}"
    script:
        "../workflow_scripts/register_volumes_by_networks.py"


rule make_volume_table:
    input:
        registrations=VOLUME_REGISTRATIONS,
    output:
        csv=results("tables/volumes.csv"),
        markdown=results("tables/volumes.md"),
    log:
        results("logs/make_volume_table.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("make_volume_table"),
        motions=SETTINGS.volumes.model_dump(mode="json", include={*MOTIONS}),
    message:
        "making the table of volumes"
    script:
        "../workflow_scripts/make_volume_table.py"


rule draw_volume_range:
    input:
        registrations=VOLUME_REGISTRATIONS,
        perturbations=expand(
            results("perturbations/volumes/{motions}.csv"), motions=MOTIONS
        ),
        style=STYLE,
    output:
        pdf=results("figures/volume_range.pdf"),
        png=report(
            results("figures/volume_range.png"),
            caption="captions/volume_range.rst",
            category="Volumes",
            labels={
                "result": "capture range in space",
                "shows": "success against the start",
            },
        ),
    log:
        results("logs/draw_volume_range.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("draw_volume_range"),
    message:
        "drawing the capture range in space"
    script:
        "../workflow_scripts/draw_volume_range.py"


rule draw_volume_episode:
    input:
        **SCANS,
        perturbations=results("perturbations/volumes/V2.csv"),
        model=PLAN.volume_model,
        style=STYLE,
    output:
        pdf=results("figures/volume_episode.pdf"),
        png=report(
            results("figures/volume_episode.png"),
            caption="captions/volume_episode.rst",
            category="Volumes",
            labels={
                "result": "a registration in space",
                "shows": "what the networks see, look by look",
            },
        ),
    log:
        results("logs/draw_volume_episode.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=GPU,
    params:
        code=code("draw_volume_episode"),
    message:
        "drawing a registration in space"
    script:
        "../workflow_scripts/draw_volume_episode.py"
