"""What a run writes follows docs/schemas. Usage: run_schemas.py STRATA SOURCE"""
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import jsonschema
except ImportError:
    print("skipped: python3 has no jsonschema")
    sys.exit(77)

strata, source = sys.argv[1], pathlib.Path(sys.argv[2])


def validator(name):
    schema = json.loads((source / f"docs/schemas/{name}.schema.json").read_text())
    checker = jsonschema.validators.validator_for(schema)
    checker.check_schema(schema)
    return checker(schema)


def run(*arguments):
    done = subprocess.run([strata, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.returncode, done.stderr)
    return done.stdout


with tempfile.TemporaryDirectory() as folder:
    out, metrics = pathlib.Path(folder, "run"), pathlib.Path(folder, "run.jsonl")
    run("train", "--config", source / "configs/ds_demo.json", "--model", source / "configs/models/gpt2-tiny.json", "--data",
        source / "configs", "--sequence", 32, "--micro-batch", 1, "--accumulate", 2, "--steps", 2, "--device-memory",
        "32MiB", "--host-memory", "32MiB", "--metrics", metrics, "--out", out)
    run("train", "--resume", "--out", out, "--steps", 3, "--metrics", metrics)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["header", "step", "step", "end", "header", "step", "end"], lines
    check = validator("metrics")
    for line in lines:
        check.validate(line)
        broken = {key: value for key, value in line.items() if key != "kind"}
        assert not check.is_valid(broken), "a line without its kind passes"
    assert lines[4]["resumed_from_step"] == 2 and lines[4]["run_id"] == lines[0]["run_id"], lines[4]
    for step in (lines[1], lines[2], lines[5]):
        parts = step["compute_s"] + step["other_s"] + sum(sum(w.values()) for w in step["stall_s"].values())
        assert abs(parts - step["step_s"]) <= 0.01 * step["step_s"], step

    record = json.loads((out / "run.json").read_text())
    validator("run").validate(record)
    assert record["run_id"] == lines[0]["run_id"], record

    digest = json.loads(run("digest", out, "--json", "--per-tensor"))
    validator("digest").validate(digest)
    assert digest["state_digest"] == lines[-1]["state_digest"], (digest, lines[-1])
    assert digest["step"] == 3 and len(digest["tensors"]) % 3 == 0, digest
