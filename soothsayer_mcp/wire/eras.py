"""The two eras of the protocol: versions, the envelope of the stateless one, and which a message belongs to."""

from enum import Enum
from typing import Final

from soothsayer_mcp.wire.frame import Frame


class Era(Enum):
    """How the two sides agree on a version."""

    HANDSHAKE = "handshake"
    STATELESS = "stateless"


HANDSHAKE_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Oldest first."""

LATEST_HANDSHAKE: Final = "2025-11-25"
BATCH_VERSION: Final = "2025-03-26"
"""The only version that has arrays."""

LINKS_SINCE: Final = "2025-06-18"
"""The first version whose results may hold links to resources."""

STATELESS_VERSION: Final = "2026-07-28"

META_PROTOCOL_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
META_CLIENT_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
META_CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
META_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
META_LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
META_SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"
META_STEP: Final = "dev.soothsayer/step"
"""Where our answers name the step."""


def era_of(frame: Frame) -> Era:
    """Tell a request's era: stateless exactly if `params._meta` has the protocol version's key."""
    if frame.params is not None and META_PROTOCOL_VERSION in frame.meta:
        return Era.STATELESS
    return Era.HANDSHAKE
