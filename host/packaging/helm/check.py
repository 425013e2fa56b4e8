"""Checks a chart where there is no helm: `python check.py CHART VERSION`. Its own files, and that its values are accepted and
refused as they should be."""

import copy
import json
import pathlib
import sys

import jsonschema
import yaml

chart, version = pathlib.Path(sys.argv[1]), sys.argv[2]
about = yaml.safe_load((chart / "Chart.yaml").read_text())
assert about["apiVersion"] == "v2" and about["version"] == about["appVersion"] == version, about
schema = json.loads((chart / "values.schema.json").read_text())
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
defaults = yaml.safe_load((chart / "values.yaml").read_text())


def merged(base, changes):
    """As helm merges values: objects name by name, everything else as a whole."""
    result = copy.deepcopy(base)
    for name, value in changes.items():
        both = isinstance(result.get(name), dict) and isinstance(value, dict)
        result[name] = merged(result[name], value) if both else value
    return result


def faults(values):
    return [fault.message for fault in validator.iter_errors(values)]


# What has no default is missing in them.
assert faults(defaults), "the defaults alone are accepted"
assert set(defaults) == set(schema["properties"]) - {"global"}, "values and schema name the same"
files = sorted((chart / "ci").glob("*-values.yaml"))
assert files, "there are values to check"
for file in files:
    values = merged(defaults, yaml.safe_load(file.read_text()))
    assert not faults(values), (file.name, faults(values))
    for wrong in (
        {"publicUrl": "http://mcp.contoso.example"},
        {"publicUrl": "https://mcp.contoso.example/"},
        {"tenantId": ""},
        {"clientId": "entra-mcp"},
        {"image": {"repository": ""}},
        {"credential": "azure-cli"},
        {"credential": "secret", "clientSecretName": ""},
        {"trustedProxies": []},
        {"store": {"url": "memory", "secretName": ""}, "replicas": 2},
        {"store": {"url": "redis://redis:6379/0", "secretName": ""}},
        {"store": {"url": "/var/lib/entra-mcp/server.db"}},
        {"settings": {"ENTRA_MCP_MAX_QUEUE": 512}},
        {"ingress": {"enabled": True, "tlsSecretName": ""}},
        {"replica": 2},
    ):
        assert faults(merged(values, wrong)), (file.name, wrong, "is accepted")
print(f"{chart.name}: {len(files)} sets of values are accepted")
