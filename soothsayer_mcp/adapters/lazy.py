"""The only late import: a row `module:name` is resolved at its first use. Nothing else in the package imports late."""

from functools import cache
from importlib import import_module
from typing import Final

ROWS: Final = (
    "cel_expr_python.cel:NewEnv",
    "cel_expr_python.cel:Type",
    "cel_expr_python.ext.ext_optional:ExtOptional",
    "cryptography.hazmat.primitives.asymmetric.ed25519:Ed25519PrivateKey",
    "cryptography.hazmat.primitives.asymmetric.ed25519:Ed25519PublicKey",
    "cryptography.hazmat.primitives.ciphers.aead:AESGCM",
    "idna:IDNAError",
    "idna:encode",
    "jsonschema_rs:FancyRegexOptions",
    "jsonschema_rs:validator_for",
    "platformdirs:user_config_path",
    "platformdirs:user_state_path",
    "re2:Options",
    "re2:Set",
    "re2:compile",
    "re2:error",
    "soothsayer_mcp.adapters.config_file:parse",
    "soothsayer_mcp.adapters.policy_files.gather:gather",
    "soothsayer_mcp.adapters.probes.commands:run",
    "soothsayer_mcp.adapters.probes.http:Asking",
    "soothsayer_mcp.adapters.probes.http:address_of",
    "soothsayer_mcp.adapters.probes.signatures:chosen",
    "soothsayer_mcp.adapters.probes.signatures:open_envelope",
)
"""Every row that an adapter of ours resolves; a test resolves them all."""


@cache
def resolve(row: str) -> object:
    """Import what a row names, once.

    Raises `ImportError` when there is no such module, `AttributeError` when the module has no such name.
    """
    module, _, name = row.partition(":")
    return getattr(import_module(module), name)
