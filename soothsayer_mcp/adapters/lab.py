"""The libraries that judge, for a policy to carry; each is imported at its first use."""

from soothsayer_mcp.adapters.conditions import Conditions
from soothsayer_mcp.adapters.patterns import compile_pattern, to_ascii
from soothsayer_mcp.adapters.scanning import compile_together
from soothsayer_mcp.evidence.scope import NAMES as EVIDENCE_NAMES
from soothsayer_mcp.policy.scene import Lab
from soothsayer_mcp.policy.sight import NAMES, NEXT_NAMES, TERM_NAMES

CONDITIONS = Conditions(NAMES)
"""Conditions of rules, and of tiers."""

TERM_CONDITIONS = Conditions(TERM_NAMES)
"""Conditions of risk terms."""

NEXT_CONDITIONS = Conditions(NEXT_NAMES)
"""Conditions of what follows a step."""

EVIDENCE_CONDITIONS = Conditions(EVIDENCE_NAMES)
"""Conditions of what calls owe."""

LAB = Lab(
    pattern=compile_pattern,
    to_ascii=to_ascii,
    scan=compile_together,
    condition=CONDITIONS.compile,
    term_condition=TERM_CONDITIONS.compile,
    names_of=lambda text: CONDITIONS.read(text).names,
)
