"""The tables, triggers and views of one segment of the trace, and the numbers that name its format.

The views are public and stable, the tables are not. State tables may gain columns; entries never change.
"""

import hashlib
import re

from soothsayer_mcp.model.failure import FailureClass

APPLICATION_ID = 1398036569
"""What `PRAGMA application_id` says of our files."""

PAGE_BYTES = 2048
"""Of the file: each commit writes every page it touches to the log as a whole, and a call touches about twenty."""

FORMAT = 1
"""What `PRAGMA user_version` says: the newest schema this version writes."""

READ_FROM = 1
"""The oldest reader that understands what this version writes."""

LIVE = "trace-{:06d}.db"
"""The name of a segment by its number; the highest number is the live one."""

SEGMENT_NAME = re.compile(r"trace-(\d{6})\.db")

RARE = " AND ".join([f"kind <> '{kind}'" for kind in ("step.intent", "step.refused", "step.outcome")])
"""What holds of the kinds that their index lists; a query says the same, or is not answered by the index."""


def _one_of(column: str, values: str) -> str:
    """Spell that a column holds one of some words, or nothing.

    SQLite fills a table of its own with the list behind an `IN` each time a row is written: 25 us for every list.
    """
    return " OR ".join([f"{column} = '{value}'" for value in values.split()])


TABLES = f"""
-- store, origin, segment, first_pos, frontier, heads, closed, read_from, shape
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- 1. the record: append-only, hashed
CREATE TABLE entries(
  -- position: leaf index in the tree, order of all facts; runs on over segments, no gaps
  pos INTEGER PRIMARY KEY,
  writer TEXT NOT NULL, seq INTEGER NOT NULL,     -- whose chain, and where in it
  -- copies of what the body says (at: µs since 1970, UTC); verify compares
  at INTEGER NOT NULL, kind TEXT NOT NULL, run TEXT, no INTEGER,
  leaf BLOB NOT NULL CHECK(length(leaf) = 32),    -- SHA-256(0x00 || body)
  body TEXT NOT NULL CHECK(typeof(body) = 'text') -- the exact UTF-8 bytes that are hashed
);
CREATE UNIQUE INDEX entries_writer ON entries(writer, seq);
CREATE INDEX entries_run ON entries(run, no) WHERE run IS NOT NULL;
CREATE INDEX entries_rare ON entries(kind, at) WHERE {RARE};
CREATE TABLE checkpoints(size INTEGER PRIMARY KEY, at INTEGER NOT NULL, frontier BLOB NOT NULL, note TEXT NOT NULL);
CREATE TRIGGER entries_next BEFORE INSERT ON entries
  WHEN NEW.pos IS NOT (SELECT coalesce(max(pos) + 1,
      (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'first_pos')) FROM entries)
    OR NEW.seq IS NOT (SELECT coalesce(max(seq) + 1, NEW.seq) FROM entries WHERE writer = NEW.writer)
  BEGIN SELECT RAISE(ABORT, 'append-only: not the next entry'); END;
CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER checkpoints_next BEFORE INSERT ON checkpoints WHEN NEW.size <= (SELECT max(size) FROM checkpoints)
  BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER checkpoints_no_update BEFORE UPDATE ON checkpoints BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER checkpoints_no_delete BEFORE DELETE ON checkpoints BEGIN SELECT RAISE(ABORT, 'append-only'); END;
-- 2. what was said: masked, salted, erasable; never a leaf. Neither text nor file: digest mode
CREATE TABLE payloads(
  id INTEGER PRIMARY KEY, writer TEXT NOT NULL, seq INTEGER NOT NULL, part TEXT NOT NULL, at INTEGER NOT NULL,
  salt BLOB NOT NULL CHECK(length(salt) = 16), text TEXT, file TEXT, UNIQUE(writer, seq, part));
CREATE TRIGGER payloads_no_update BEFORE UPDATE ON payloads
  BEGIN SELECT RAISE(ABORT, 'keep or erase, never edit'); END;
-- 3. state: what the entries add up to
CREATE TABLE writers(
  id TEXT PRIMARY KEY, opened_at INTEGER NOT NULL, closed_at INTEGER, about TEXT NOT NULL
) WITHOUT ROWID;
-- budgets: JSON, what a run may use up by name
CREATE TABLE policies(n INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL, at INTEGER NOT NULL,
  budgets TEXT NOT NULL DEFAULT '{{}}');
CREATE TABLE runs(
  id TEXT PRIMARY KEY, state TEXT NOT NULL CHECK({_one_of("state", "open paused stopped completed failed")}),
  principal TEXT NOT NULL, host TEXT,
  policy INTEGER NOT NULL, opened_at INTEGER NOT NULL, last_at INTEGER NOT NULL, closed_at INTEGER,
    steps INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0, unknown INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0,
  -- automatic: found by principal, workspace, host
  how TEXT NOT NULL DEFAULT '', workspace TEXT NOT NULL DEFAULT '', automatic INTEGER NOT NULL DEFAULT 0,
  -- version: grows with what a decision may read
  version INTEGER NOT NULL DEFAULT 0, why TEXT NOT NULL DEFAULT '', intent_by TEXT,
  -- attached: opened by a person for principal and workspace; scope: JSON, only and under; halted: stopped at once
  attached INTEGER NOT NULL DEFAULT 0, scope TEXT NOT NULL DEFAULT '',
  halted INTEGER NOT NULL DEFAULT 0,
  -- what people said of its budgets: JSON, own and added
  allowance TEXT NOT NULL DEFAULT '',
  -- what the agent's steps add up to; the names are those of `model.run.Counters`
  calls INTEGER NOT NULL DEFAULT 0, writes INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0,
  denials INTEGER NOT NULL DEFAULT 0, asks INTEGER NOT NULL DEFAULT 0, in_flight INTEGER NOT NULL DEFAULT 0,
  unverified_writes INTEGER NOT NULL DEFAULT 0, bytes_returned INTEGER NOT NULL DEFAULT 0,
  bytes_reserved INTEGER NOT NULL DEFAULT 0, cost_micro INTEGER NOT NULL DEFAULT 0,
  calls_since_compact INTEGER NOT NULL DEFAULT 0, bytes_since_compact INTEGER NOT NULL DEFAULT 0,
  error_streak INTEGER NOT NULL DEFAULT 0, repeats_refused INTEGER NOT NULL DEFAULT 0,
  changes INTEGER NOT NULL DEFAULT 0, most_same INTEGER NOT NULL DEFAULT 0,
  untrusted_reads INTEGER NOT NULL DEFAULT 0, values_kept INTEGER NOT NULL DEFAULT 0,
  values_missed INTEGER NOT NULL DEFAULT 0, suspect_reads INTEGER NOT NULL DEFAULT 0,
  open_us INTEGER NOT NULL DEFAULT 0, opened_us INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX runs_attached ON runs(opened_at) WHERE attached = 1;
CREATE INDEX runs_automatic ON runs(principal, workspace, host, opened_at) WHERE automatic = 1;
CREATE TABLE run_keys(
  run TEXT PRIMARY KEY, match_key BLOB NOT NULL
) WITHOUT ROWID;
-- where values of a run stood before: keyed digests; origins: the sum of 1 first-party result, 2 another, 4 approved
CREATE TABLE origins(
  run TEXT NOT NULL, value BLOB NOT NULL CHECK(length(value) = 16), origins INTEGER NOT NULL,
  PRIMARY KEY(run, value)
) WITHOUT ROWID;
CREATE TABLE steps(
  n INTEGER PRIMARY KEY, run TEXT NOT NULL, no INTEGER NOT NULL, span TEXT NOT NULL, writer TEXT NOT NULL,
  at INTEGER NOT NULL,
  cause TEXT NOT NULL CHECK({_one_of("cause", "agent undo probe selftest control")}), of_step TEXT, continues TEXT,
    server TEXT NOT NULL, tool TEXT NOT NULL, does TEXT NOT NULL,
  policy INTEGER NOT NULL, effect TEXT CHECK({_one_of("effect", "allow deny ask")}), would TEXT, rule TEXT,
    risk INTEGER, asked INTEGER NOT NULL DEFAULT 0,
  -- NULL: in flight
  outcome TEXT CHECK({_one_of("outcome", "succeeded failed unknown")}),
    acted TEXT CHECK({_one_of("acted", "no yes maybe")}),
  failure TEXT CHECK({_one_of("failure", " ".join(FailureClass))}),
    reason TEXT, next TEXT,
  -- one class, or none
  dur_us INTEGER, tool_us INTEGER, UNIQUE(run, no),
    -- unknown and without a class: the answer comes later, as a task
    CHECK(coalesce(outcome, '') = 'unknown' OR (coalesce(outcome, '') = 'failed') = (failure IS NOT NULL)));
CREATE INDEX steps_at ON steps(at);
CREATE INDEX steps_tool ON steps(server, tool, at);
CREATE INDEX steps_denied ON steps(at) WHERE effect = 'deny';
CREATE INDEX steps_failed ON steps(failure, at) WHERE failure IS NOT NULL;
-- no step in flight has two intents; and it holds what is in flight, which is little
CREATE UNIQUE INDEX steps_once ON steps(span) WHERE outcome IS NULL;
CREATE INDEX steps_unknown ON steps(run) WHERE outcome = 'unknown';
-- earlier steps by what policy asks about them; at 0: added up
CREATE TABLE marks(
  mark TEXT NOT NULL, holder TEXT NOT NULL, key TEXT NOT NULL,
  state TEXT NOT NULL CHECK({_one_of("state", "open ok failed denied doubt")}),
  at INTEGER NOT NULL, run TEXT NOT NULL, no INTEGER NOT NULL, n INTEGER NOT NULL, amount INTEGER NOT NULL,
  odd INTEGER NOT NULL, window_us INTEGER NOT NULL,
  PRIMARY KEY(mark, holder, key, state, at, run, no)) WITHOUT ROWID;
CREATE INDEX marks_open ON marks(run, no) WHERE state = 'open';
-- how often a call got an answer since the change of that number; call, answer: keyed digests
CREATE TABLE repeats(
  run TEXT NOT NULL, call BLOB NOT NULL, answer BLOB NOT NULL, n INTEGER NOT NULL, since INTEGER NOT NULL,
  at INTEGER NOT NULL, PRIMARY KEY(run, call, answer)) WITHOUT ROWID;
-- which policies count earlier steps under a mark, and of which tools: JSON, tools and except
CREATE TABLE counting(
  mark TEXT NOT NULL, policy INTEGER NOT NULL, tools TEXT NOT NULL, PRIMARY KEY(mark, policy)) WITHOUT ROWID;
-- which tools a run called under which policy
CREATE TABLE used(
  run TEXT NOT NULL, policy INTEGER NOT NULL, server TEXT NOT NULL, tool TEXT NOT NULL,
  PRIMARY KEY(run, policy, server, tool)) WITHOUT ROWID;
CREATE TABLE approvals(
  id TEXT PRIMARY KEY, run TEXT NOT NULL, no INTEGER NOT NULL, about TEXT NOT NULL, rule TEXT NOT NULL,
  call TEXT NOT NULL, asked_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL, state TEXT NOT NULL CHECK({_one_of("state", "open yes no expired withdrawn")}),
    answered_at INTEGER, answered_by TEXT, channel TEXT, comment TEXT,
  -- card: what is shown, its arguments exact; gone once it is answered. shown: its digest
  strong INTEGER NOT NULL DEFAULT 0, remember TEXT NOT NULL DEFAULT 'never', shown TEXT NOT NULL DEFAULT '', card TEXT,
  host_pid INTEGER NOT NULL DEFAULT 0, channels TEXT NOT NULL DEFAULT '', bound TEXT NOT NULL DEFAULT '',
  -- needs: whose signed answers are due, as JSON; requester: the principal of the call
  needs TEXT NOT NULL DEFAULT '', requester TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
-- signed answers; whoever rests on one verifies it with the keys that policy names
CREATE TABLE votes(
  ask TEXT NOT NULL, key TEXT NOT NULL, by TEXT NOT NULL, answer TEXT NOT NULL CHECK({_one_of("answer", "yes no")}),
  at INTEGER NOT NULL, signature TEXT NOT NULL, PRIMARY KEY(ask, key)) WITHOUT ROWID;
-- answers that cover further calls of their run; bound: what they hang on
CREATE TABLE grants(
  id TEXT PRIMARY KEY, run TEXT NOT NULL, server TEXT NOT NULL, tool TEXT NOT NULL, shape TEXT NOT NULL,
  bound TEXT NOT NULL, by TEXT NOT NULL, at INTEGER NOT NULL, revoked_at INTEGER) WITHOUT ROWID;
CREATE INDEX grants_run ON grants(run, server, tool) WHERE revoked_at IS NULL;
CREATE TABLE evidence(
  id TEXT PRIMARY KEY, run TEXT NOT NULL, no INTEGER NOT NULL, kind TEXT NOT NULL,
  level TEXT NOT NULL CHECK({_one_of("level", "E1 E2 E3 E4 E5")}),
  finding TEXT NOT NULL, subject TEXT NOT NULL, began INTEGER NOT NULL, ended INTEGER NOT NULL, at INTEGER NOT NULL,
    expires_at INTEGER, writer TEXT NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID;
-- how unknown steps were settled; told: whether the agent need not be told any more
CREATE TABLE settlements(
  run TEXT NOT NULL, no INTEGER NOT NULL, how TEXT NOT NULL, told INTEGER NOT NULL, PRIMARY KEY(run, no)
) WITHOUT ROWID;
-- single-use evidence, yeses, attestations: one insert each, in A
CREATE TABLE spent(key TEXT PRIMARY KEY, run TEXT NOT NULL, no INTEGER NOT NULL) WITHOUT ROWID;
-- writes that have not ended
CREATE TABLE subjects(
  subject TEXT NOT NULL, run TEXT NOT NULL, no INTEGER NOT NULL, began INTEGER NOT NULL,
  PRIMARY KEY(subject, run, no)
) WITHOUT ROWID;
-- the two writes to a subject that ended last: a step's own does not make it stale
CREATE TABLE written(
  subject TEXT PRIMARY KEY, ended INTEGER NOT NULL, run TEXT NOT NULL, no INTEGER NOT NULL,
  prev_ended INTEGER, prev_run TEXT, prev_no INTEGER) WITHOUT ROWID;
-- the latest step of a run that an evidence item asks for; results: JSON, path -> keyed digest; files: glob -> digest
CREATE TABLE sightings(
  run TEXT NOT NULL, pattern TEXT NOT NULL, no INTEGER NOT NULL, began INTEGER NOT NULL, sure INTEGER NOT NULL,
  at INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0, ok INTEGER NOT NULL DEFAULT 0,
  level TEXT NOT NULL DEFAULT 'E1', why TEXT NOT NULL DEFAULT '', results TEXT NOT NULL DEFAULT '{{}}',
  files_before TEXT NOT NULL DEFAULT '{{}}', files_after TEXT NOT NULL DEFAULT '{{}}', PRIMARY KEY(run, pattern)
) WITHOUT ROWID;
CREATE INDEX approvals_open ON approvals(asked_at) WHERE state = 'open';
CREATE INDEX approvals_call ON approvals(run, call);
CREATE INDEX evidence_subject ON evidence(subject);
CREATE TABLE definitions(
  server TEXT NOT NULL, tool TEXT NOT NULL, digest TEXT NOT NULL,
  state TEXT NOT NULL CHECK({_one_of("state", "pinned new changed")}),
  -- digest, raw, identity: what is pinned, or, while `new`, what was seen
  at INTEGER NOT NULL, identity TEXT NOT NULL, raw BLOB NOT NULL,
  -- what was seen last, while it differs from the pin
  seen TEXT, seen_raw BLOB, seen_identity TEXT, PRIMARY KEY(server, tool)) WITHOUT ROWID;
-- identity: seen last
CREATE TABLE servers(
  server TEXT PRIMARY KEY, name TEXT NOT NULL, identity TEXT NOT NULL, declared INTEGER NOT NULL,
  at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE undo(
  run TEXT NOT NULL, no INTEGER NOT NULL, class TEXT NOT NULL, state TEXT NOT NULL, until INTEGER, undone_by TEXT,
  PRIMARY KEY(run, no)
) WITHOUT ROWID;
CREATE VIEW v_steps AS SELECT s.n, s.run || '.' || s.no AS step, s.run, s.no, s.span, r.principal, r.host, s.server,
  s.tool, s.does, s.cause, s.of_step, s.continues, s.effect,
  s.would, s.rule, s.risk, p.digest AS policy, s.asked, s.outcome, s.acted, s.failure, s.reason, s.next,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.at / 1e6, 'unixepoch') AS at,
  s.at AS at_us, s.dur_us / 1e3 AS dur_ms, s.tool_us / 1e3 AS tool_ms FROM steps s LEFT JOIN runs r ON r.id = s.run
    LEFT JOIN policies p ON p.n = s.policy;
CREATE VIEW v_findings AS SELECT run || '.' || no AS step, json_extract(body, '$.check') AS "check",
  json_extract(body, '$.finding') AS finding, json_extract(body, '$.level') AS level, at
  -- the second term makes the partial index usable
  FROM entries WHERE kind = 'step.finding' AND {RARE};
CREATE VIEW v_approvals AS SELECT id, run, no, about, rule, call, asked_at, expires_at, state, answered_at, answered_by,
  channel, comment, strong, remember, channels, (answered_at - asked_at) / 1e6 AS waited_s FROM approvals;
CREATE VIEW v_runs AS SELECT r.id AS run, r.state, r.why, r.principal, r.host, r.workspace, p.digest AS policy,
  r.steps, r.failed, r.unknown, r.asked,
  strftime('%Y-%m-%dT%H:%M:%fZ', r.opened_at / 1e6, 'unixepoch') AS opened, strftime('%Y-%m-%dT%H:%M:%fZ',
    r.last_at / 1e6, 'unixepoch') AS last,
  strftime('%Y-%m-%dT%H:%M:%fZ', r.closed_at / 1e6, 'unixepoch') AS closed, r.opened_at AS opened_us,
    r.last_at AS last_us, r.closed_at AS closed_us
  FROM runs r LEFT JOIN policies p ON p.n = r.policy;
"""  # noqa: S608 - words of ours

SHAPE = hashlib.sha256(TABLES.encode("ascii", "replace")).hexdigest()
"""Which tables these are: before the first release they change under one format, and no build writes into another's."""
