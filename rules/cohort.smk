# The volumes of simulated patients, or those of a sample sheet after a check; and the split of the patients.
# Imports and split come first of what can run: most faults of a user's files end the run there.

if SHEET is None:

    rule simulate_patient:
        output:
            mr=results("volumes/{patient}/mr.nii.gz"),
            ct=results("volumes/{patient}/ct.nii.gz"),
            truth=results("volumes/{patient}/truth.tfm"),
            tissue=results("volumes/{patient}/tissue.nii.gz"),
        log:
            results("logs/simulate_patient/{patient}.log"),
        benchmark:
            results("benchmarks/simulate_patient/{patient}.tsv")
        conda:
            "../envs/regagent.yaml"
        threads: 1
        resources:
            mem_mb=3000,
        params:
            code=code("simulate_patient"),
            settings=section("phantom"),
            seed=SETTINGS.cohort.seed,
        message:
            "{wildcards.patient}: simulating the MR and the CT"
        script:
            "../workflow_scripts/simulate_patient.py"

else:

    rule import_patient:
        input:
            mr=lambda wildcards: ROWS[wildcards.patient].mr,
            ct=lambda wildcards: ROWS[wildcards.patient].ct,
        output:
            mr=results("volumes/{patient}/mr.nii.gz"),
            ct=results("volumes/{patient}/ct.nii.gz"),
            voxels=results("volumes/{patient}/voxels.json"),
        log:
            results("logs/import_patient/{patient}.log"),
        priority: 100
        conda:
            "../envs/regagent.yaml"
        threads: 1
        resources:
            mem_mb=3000,
        params:
            code=code("import_patient"),
            sheet=SHEET,
            scans=lambda wildcards: fingerprint(
                ROWS[wildcards.patient].mr, ROWS[wildcards.patient].ct
            ),
            trust_values=SETTINGS.cohort.trust_values,
        message:
            "{wildcards.patient}: reading and checking {input.mr} and {input.ct}"
        script:
            "../workflow_scripts/import_patient.py"


rule split_patients:
    input:
        **(
            {}
            if SHEET is None
            else {
                "sheet": SHEET,
                "voxels": expand(
                    results("volumes/{patient}/voxels.json"), patient=PATIENTS
                ),
            }
        ),
    output:
        split=results("split.tsv"),
    log:
        results("logs/split_patients.log"),
    priority: 100
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        **({} if SHEET is None else {"sets": [row.set for row in ROWS.values()]}),
        code=code("split_patients"),
        settings=section("split"),
        patients=PATIENTS,
    message:
        "splitting the patients into a training and a test set"
    script:
        "../workflow_scripts/split_patients.py"
