# The two sets of perturbed test pairs (§4).


rule perturb_slices:
    input:
        slices=expand(results("slices/{patient}.npz"), patient=PATIENTS),
        split=results("split.tsv"),
    output:
        perturbations=results("perturbations/{set}.csv"),
    log:
        results("logs/perturb_slices/{set}.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("perturb_slices"),
        settings=section("perturbations"),
    message:
        "{wildcards.set}: drawing the perturbations of the test patients' slices"
    script:
        "../workflow_scripts/perturb_slices.py"
