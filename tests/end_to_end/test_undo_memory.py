"""What a run told a real knowledge-graph server is taken back through that server, in a session of the terminal's."""

import json
from pathlib import Path

from commands import soothsayer
from end_to_end.conftest import SOOTHSAYER, program
from needs import need
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.trace.query import Filter

POLICY = """
soothsayer: policy/v1
name: graph
default: {read: allow, other: ask}
labels:
  - {tools: "memory.read_graph | memory.open_nodes", does: read}
  - {tools: "memory.create_entities | memory.delete_entities", does: write, touches: graph}
  - {tools: "memory.add_observations | memory.delete_observations", does: write, touches: graph}
rules:
  - allow: "entities are made one at a time, and can be deleted"
    tools: "memory.create_entities"
    capture: {tool: memory.read_graph}
    undo: {class: restore, tool: memory.delete_entities, args: {entityNames: ["${args.entities.0.name}"]}}
  - allow: "observations are added, and can be deleted"
    tools: "memory.add_observations"
    capture: {tool: memory.open_nodes, args: {names: ["${args.observations.0.entityName}"]}}
    undo:
      class: compensate
      tool: memory.delete_observations
      args:
        deletions: [{entityName: "${args.observations.0.entityName}", observations: "${args.observations.0.contents}"}]
"""


def test_entities_and_observations_are_taken_back_through_the_memory_server(tmp_path: Path) -> None:
    server = program("npm", "mcp-server-memory")
    need("servers", found=Path(server).exists(), remedy="make servers")
    graph, state, config = tmp_path / "memory.jsonl", tmp_path / "state", tmp_path / "config.yaml"
    graph.write_text(json.dumps({"type": "entity", "name": "Ada", "entityType": "person", "observations": ["old"]}))
    (tmp_path / "policy.yaml").write_text(POLICY)
    config.write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: .\nmcpServers:\n"
        f'  memory: {{command: {server}, env: {{MEMORY_FILE_PATH: "{graph}"}}}}\n'
    )
    with RawHost([SOOTHSAYER, "proxy", "--state", state, "-c", config]) as host:
        host.initialize()
        for name in ("Grace", "Edsger"):
            made: JsonObject = {"name": name, "entityType": "person", "observations": []}
            assert "Error" not in str(host.call("create_entities", {"entities": [made]}))
        seen = {"entityName": "Ada", "contents": ["new"]}
        assert "new" in str(host.call("add_observations", {"observations": [seen]}))
    assert graph.read_text().count('"type":"entity"') == 3
    with Reader(state) as reader:
        run = next(step.run for step in reader.steps(Filter(), reader.now(), limit=None) if step.cause == "agent")
    done = soothsayer("rollback", run, "--yes", "--state", state)
    assert done.code == 0, done.out + done.err
    assert [line.split()[0] for line in done.out.splitlines()] == ["undone"] * 3
    left = [json.loads(line) for line in graph.read_text().splitlines()]
    assert [(one["name"], one["observations"]) for one in left] == [("Ada", ["old"])]
    report = verify([state])
    assert report.holds, report.problems
