"""The JSON Schema of a configuration, for editors. `config_file.py` has the last word; a test compares them."""

from soothsayer_mcp.model.json import Json, JsonObject


def schema() -> JsonObject:
    """Draft-07, the subset that editors know."""
    duration: Json = {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h|d)$"}
    size: Json = {"type": ["string", "integer"], "description": "a size such as 500kB, 8MiB or 64MB"}
    text: Json = {"type": "string"}
    texts: Json = {"type": "object", "additionalProperties": {"type": "string"}}
    listed: Json = {"oneOf": [text, {"type": "array", "items": text}]}
    server: JsonObject = {
        "command": text,
        "args": {"type": "array", "items": {"type": ["string", "number"]}},
        "cwd": text,
        "env": texts,
        "pass_env": {**_described("names of variables that the server may see"), "type": "array", "items": text},
        "start_timeout": duration,
        "disabled": {"type": "boolean"},
        "type": {"enum": ["stdio", "http", "streamable-http", "streamableHttp"]},
        "url": text,
        "headers": texts,
        "addresses": {
            **_described("networks beside public ones that the url may lead to: loopback, private, or 10.0.0.0/8"),
            **listed,
        },
    }
    share: Json = {"type": "number", "minimum": 0, "maximum": 1}
    tier: JsonObject = {
        **_section({"name": text, "hints": listed, "cost": share, "speed": share, "intelligence": share}),
        "required": ["name"],
    }
    properties: JsonObject = {
        "soothsayer": {"const": "config/v1"},
        "mode": {"enum": ["enforce", "observe"]},
        "policy": {**_described("files, or names of policies that are shipped"), "oneOf": [text, listed]},
        "organisation": {
            **_described("the organisation's policy, and the key that has to have signed it"),
            "oneOf": [text, {**_section({"policy": text, "key": text}), "required": ["policy"]}],
        },
        "workspace": text,
        "mcpServers": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z0-9-]{1,20}$"},
            "additionalProperties": {"type": "object", "properties": server},
        },
        "state": text,
        "run": _section({"id": text, "bind": {"enum": ["auto", "explicit"]}}),
        "asks": _section({"expires": duration, "hold": duration, "notify": listed}),
        "control_tools": {"type": "boolean"},
        "probes": {**_described("what checks may look at, run and call; all off by default"), **_probes(duration)},
        "tiers": {
            **_described("what names of model tiers mean, weakest first"),
            "type": "array",
            "items": tier,
        },
        "trace": _section(
            {"durability": {"enum": ["strict", "balanced", "relaxed"]}, "timeout": duration, "blob_max": size}
        ),
        "limits": _section(
            {"max_frame": size, "in_flight": {"type": "integer", "minimum": 1}, "call_timeout": duration}
        ),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "soothsayer.yaml",
        "type": "object",
        "required": ["soothsayer"],
        "additionalProperties": False,
        "properties": properties,
    }


def _probes(duration: Json) -> JsonObject:
    texts: Json = {"type": "array", "items": {"type": "string"}}
    command: JsonObject = {
        **_section({"argv": texts, "cwd": {"type": "string"}, "env": texts, "timeout": duration}),
        "required": ["argv"],
    }
    return _section(
        {
            "files": _section({"roots": texts}),
            "http": _section({"hosts": texts}),
            "commands": {"type": "object", "additionalProperties": command},
            "keys": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    )


def _described(text: str) -> JsonObject:
    return {"description": text}


def _section(properties: JsonObject) -> JsonObject:
    return {"type": "object", "additionalProperties": False, "properties": properties}
