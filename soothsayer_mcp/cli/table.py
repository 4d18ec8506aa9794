"""Every command: where it stands in the help, what it does in a line, and the code that runs it, named as text.

Help and completion read this table; a module is imported when its command runs.
"""

from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One command."""

    words: str
    """What is typed: `log`, `run list`."""
    section: str
    help: str
    runs: str
    """`module:name` of its `click.Command`."""


_CLI = "soothsayer_mcp.cli"

COMMANDS: tuple[Row, ...] = (
    Row(
        words="demo",
        section="start",
        help="An offline tour over real bundled servers.",
        runs=f"{_CLI}.demo:demo",
    ),
    Row(
        words="proxy",
        section="start",
        help="Stand between a host and its tool servers; hosts start this.",
        runs=f"{_CLI}.start:proxy",
    ),
    Row(words="init", section="start", help="Write a first configuration and policy.", runs=f"{_CLI}.init:init"),
    Row(
        words="hosts",
        section="hosts",
        help="Which hosts are here, and which of their servers are governed.",
        runs=f"{_CLI}.hosts:hosts",
    ),
    Row(
        words="hosts restore",
        section="hosts",
        help="A host's file as it was before us.",
        runs=f"{_CLI}.connect:restore",
    ),
    Row(
        words="connect",
        section="hosts",
        help="Stand in front of the servers of a host, by a change of its file.",
        runs=f"{_CLI}.connect:connect",
    ),
    Row(
        words="disconnect",
        section="hosts",
        help="Leave the servers of a host, keeping every other edit of its file.",
        runs=f"{_CLI}.connect:disconnect",
    ),
    Row(
        words="doctor",
        section="hosts",
        help="What is wrong here and what to do about it, a line each.",
        runs=f"{_CLI}.doctor:doctor",
    ),
    Row(words="asks", section="asks", help="Open questions about calls.", runs=f"{_CLI}.asks:asks"),
    Row(words="approve", section="asks", help="Allow a call that is asked about, once.", runs=f"{_CLI}.asks:approve"),
    Row(words="grants", section="asks", help="Answers that cover further calls of a run.", runs=f"{_CLI}.asks:grants"),
    Row(
        words="revoke",
        section="asks",
        help="Take back an answer that covers further calls.",
        runs=f"{_CLI}.asks:revoke",
    ),
    Row(words="deny", section="asks", help="Refuse a call that is asked about.", runs=f"{_CLI}.asks:deny"),
    Row(
        words="approver init",
        section="asks",
        help="Make the key that an approver signs answers with.",
        runs=f"{_CLI}.approver:approver_init",
    ),
    Row(
        words="approver list",
        section="asks",
        help="Approvers who have a key here.",
        runs=f"{_CLI}.approver:approver_list",
    ),
    Row(words="log", section="look", help="Steps, newest first, one line each.", runs=f"{_CLI}.look:log"),
    Row(
        words="show",
        section="look",
        help="All that is known about a step, a run, or what a reason means.",
        runs=f"{_CLI}.look:show",
    ),
    Row(
        words="stats",
        section="look",
        help="Figures: failures, asks, how long steps took.",
        runs=f"{_CLI}.look:stats",
    ),
    Row(
        words="watch",
        section="look",
        help="Steps, questions and runs on a screen that stays open; questions are answered there.",
        runs=f"{_CLI}.watch:watch",
    ),
    Row(
        words="ui",
        section="look",
        help="Steps, questions and runs on pages in the browser of this machine; questions are answered there.",
        runs=f"{_CLI}.ui:ui",
    ),
    Row(words="run list", section="runs", help="Runs, newest first.", runs=f"{_CLI}.runs:run_list"),
    Row(words="run show", section="runs", help="One run and its steps.", runs=f"{_CLI}.runs:run_show"),
    Row(
        words="run open",
        section="runs",
        help="Open a run for what is done in a folder from now on.",
        runs=f"{_CLI}.run_state:run_open",
    ),
    Row(words="run pause", section="runs", help="Take no more calls for now.", runs=f"{_CLI}.run_state:run_pause"),
    Row(words="run resume", section="runs", help="Take calls again.", runs=f"{_CLI}.run_state:run_resume"),
    Row(words="run stop", section="runs", help="Take no more calls, ever.", runs=f"{_CLI}.run_state:run_stop"),
    Row(
        words="run complete",
        section="runs",
        help="End a run as done, if nothing is missing.",
        runs=f"{_CLI}.run_state:run_complete",
    ),
    Row(
        words="run settle",
        section="runs",
        help="Say whether a step of unknown outcome took effect.",
        runs=f"{_CLI}.run_settle:run_settle",
    ),
    Row(
        words="rollback",
        section="runs",
        help="Put back what a run did, step by step.",
        runs=f"{_CLI}.rollback:rollback",
    ),
    Row(
        words="trace verify",
        section="trace",
        help="Check the record: hashes, chains, meaning.",
        runs=f"{_CLI}.trace:trace_verify",
    ),
    Row(
        words="trace query",
        section="trace",
        help="A filter, or read-only SQL on the views.",
        runs=f"{_CLI}.trace:trace_query",
    ),
    Row(
        words="policy check",
        section="policy",
        help="Load a policy as the proxy would, and say what is wrong with it.",
        runs=f"{_CLI}.policy:policy_check",
    ),
    Row(
        words="policy explain",
        section="policy",
        help="Why a call would be allowed, asked about or denied.",
        runs=f"{_CLI}.policy:policy_explain",
    ),
    Row(
        words="policy test",
        section="policy",
        help="Run the tests of a policy, and tell what they leave untried.",
        runs=f"{_CLI}.policy_test:policy_test",
    ),
    Row(
        words="policy replay",
        section="policy",
        help="Decide recorded steps again, by their own policy or by another.",
        runs=f"{_CLI}.policy_replay:policy_replay",
    ),
    Row(
        words="policy suggest",
        section="policy",
        help="A least-privilege policy from recorded steps, with its tests.",
        runs=f"{_CLI}.policy_suggest:policy_suggest",
    ),
    Row(
        words="policy score",
        section="policy",
        help="What a policy stops, what it costs honest work, how often it asks.",
        runs=f"{_CLI}.policy_score:policy_score",
    ),
    Row(
        words="policy sign",
        section="policy",
        help="Sign an organisation's policy.",
        runs=f"{_CLI}.policy_sign:policy_sign",
    ),
    Row(
        words="policy schema",
        section="policy",
        help="A JSON Schema for editors, of policies or of their tests.",
        runs=f"{_CLI}.policy_schema:policy_schema",
    ),
    Row(
        words="pins list",
        section="pins",
        help="Pinned tool definitions, and those that differ.",
        runs=f"{_CLI}.pins:pins_list",
    ),
    Row(
        words="pins diff",
        section="pins",
        help="What changed in a server's tool definitions.",
        runs=f"{_CLI}.pins:pins_diff",
    ),
    Row(
        words="pins accept",
        section="pins",
        help="Pin what a server defines now, after a look at it.",
        runs=f"{_CLI}.pins:pins_accept",
    ),
    Row(
        words="completion",
        section="other",
        help="Shell completion for bash, zsh or fish.",
        runs=f"{_CLI}.other:completion",
    ),
    Row(words="version", section="other", help="Versions of what takes part.", runs=f"{_CLI}.other:version"),
)

GROUPS: dict[str, str] = {
    "hosts": "Hosts: the applications whose servers are governed.",
    "run": "Runs: pieces of work, each with its steps. They are opened, paused, resumed, stopped and completed here.",
    "trace": "The record: check it, question it.",
    "policy": "The rules: check them, explain them.",
    "pins": "Tool definitions as they were accepted.",
    "approver": "People who answer with a key of their own.",
}
"""What the first word of a two-word command stands for."""
