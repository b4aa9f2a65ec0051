# From volumes to slice pairs (§4): pre-registration in 3D, slices, landmarks, evaluation points, perturbations.

# The alignment, if it is known: the truth of a simulated patient, or a transform that the sheet gives. Only the
# tissues of a simulated patient are known.
if SHEET is None:
    LABELLED = {"tissue": results("volumes/{patient}/tissue.nii.gz")}
    KNOWN = {"truth": results("volumes/{patient}/truth.tfm")}
    KNOWN_STATE = {}
else:
    LABELLED = {}
    KNOWN = {"transform": lambda wildcards: ROWS[wildcards.patient].transform or []}
    KNOWN_STATE = {
        "transform": lambda wildcards: (file := ROWS[wildcards.patient].transform)
        and fingerprint(file)
    }


# In front of Elastix, if preregistration.method is agent.
rule place_patient:
    input:
        mr=results("volumes/{patient}/mr.nii.gz"),
        ct=results("volumes/{patient}/ct.nii.gz"),
        model=os.path.relpath(files.SPACE),
    output:
        transform=results("placed/{patient}.tfm"),
    log:
        results("logs/place_patient/{patient}.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=GPU,
    params:
        code=code("place_patient"),
        sheet=SHEET,
    message:
        "{wildcards.patient}: bringing the CT's head onto the MR's"
    script:
        "../workflow_scripts/place_patient.py"


rule preregister_patient:
    input:
        **KNOWN,
        mr=results("volumes/{patient}/mr.nii.gz"),
        ct=results("volumes/{patient}/ct.nii.gz"),
        start=placed,
        parameter_map=alignment_map(),
    output:
        ct=results("preregistered/{patient}/ct.nii.gz"),
        transform=results("preregistered/{patient}/transform.tfm"),
        quality=results("preregistered/{patient}/quality.json"),
        overlay=report(
            results("preregistered/{patient}/overlay.png"),
            caption="captions/overlay.rst",
            category="Patients",
            subcategory="Pre-registration, by patient",
            labels={"figure": "overlay", "patient": "{patient}"},
        ),
    log:
        results("logs/preregister_patient/{patient}.log"),
    benchmark:
        results("benchmarks/preregister_patient/{patient}.tsv")
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        **KNOWN_STATE,
        code=code("preregister_patient"),
        settings=section("preregistration"),
        sheet=SHEET,
    message:
        "{wildcards.patient}: aligning the CT with the MR in 3D"
    script:
        "../workflow_scripts/preregister_patient.py"


rule select_slices:
    input:
        **LABELLED,
        mr=results("volumes/{patient}/mr.nii.gz"),
        ct=results("preregistered/{patient}/ct.nii.gz"),
    output:
        slices=results("slices/{patient}.npz"),
    log:
        results("logs/select_slices/{patient}.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        code=code("select_slices"),
        settings=section("slices"),
    message:
        "{wildcards.patient}: cutting slice pairs"
    script:
        "../workflow_scripts/select_slices.py"


rule perturb_slices:
    input:
        slices=SLICES,
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
        settings=lambda wildcards: SETTINGS.perturbations.model_dump(
            mode="json", include={"per_slice", "seed", wildcards.set}
        ),
    message:
        "{wildcards.set}: drawing the perturbations of the test patients' slices"
    script:
        "../workflow_scripts/perturb_slices.py"


rule first_perturbations:
    input:
        perturbations=results("perturbations/{set}.csv"),
    output:
        perturbations=results("perturbations/first/{set}.csv"),
    log:
        results("logs/first_perturbations/{set}.log"),
    conda:
        "../envs/regagent.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("first_perturbations"),
        per_slice=SETTINGS.perturbations.slow_per_slice,
    message:
        "{wildcards.set}: taking the first perturbations of each slice for the slow methods"
    script:
        "../workflow_scripts/first_perturbations.py"
