"""The record of a run names what its results rest on."""

import hashlib
import json

from regagent.reproduction.provenance import PACKAGES, write_provenance


def test_the_record(tmp_path):
    data = tmp_path / "split.tsv"
    data.write_text("patient\tset\n")
    config = {
        "run": "own",
        "seeds": [1, 2],
        "cohort": {"seed": 2018, "patients": 5},
        "phantom": {"mr_noise": 0.1},
    }
    output = tmp_path / "provenance.json"
    table, footer = tmp_path / "table2.csv", tmp_path / "provenance.rst"
    table.write_text("method\n")
    write_provenance(output, footer, config, {"train_agent": "0123"}, [data], [table])
    record = json.loads(output.read_text())
    assert record["config"] == config
    assert record["seeds"] == {"training": [1, 2], "cohort": 2018}
    assert record["code"] == {"train_agent": "0123"}
    assert record["sha256"] == {str(data): hashlib.sha256(data.read_bytes()).hexdigest()}
    assert {"commit", "uncommitted_changes", "written"} <= record.keys()
    assert record["machine"]["processor"]
    assert set(record["packages"]) == set(PACKAGES)
    assert record["packages"]["numpy"]
    assert record["results"] == {str(table): hashlib.sha256(table.read_bytes()).hexdigest()}
    said = footer.read_text()
    assert str(record["commit"]) in said and record["packages"]["torch"] in said and str(output) in said
    assert "Seeds: training 1 2, cohort 2018." in said
    assert "the 1 files that the results rest on and of 1 tables" in said
