"""`strata config check --json` follows docs/schemas/config_check.schema.json. Usage: config_schema.py STRATA SOURCE"""
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
schema = json.loads((source / "docs/schemas/config_check.schema.json").read_text())
jsonschema.validators.validator_for(schema).check_schema(schema)


def check(path, code):
    ran = subprocess.run([strata, "config", "check", str(path), "--json"], capture_output=True, text=True)
    assert ran.returncode == code, (path, ran.returncode, ran.stderr)
    document = json.loads(ran.stdout)
    jsonschema.validate(document, schema)
    assert document["valid"] == (code == 0), path


configs = sorted((source / "configs").glob("*.json"))
assert configs
for config in configs:
    check(config, 0)
with tempfile.TemporaryDirectory() as folder:
    bad = pathlib.Path(folder, "bad.json")
    for text in ['{"fp16": {"enabled": true}}', "{", '{"zero_optimization": {"stage": 9}}']:
        bad.write_text(text)
        check(bad, 2)
    check(pathlib.Path(folder, "missing.json"), 2)
