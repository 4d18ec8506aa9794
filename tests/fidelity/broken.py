"""The strict table: lines that do not read in one way, and how each is answered."""

from fidelity.rig import call, request

PARSE, INVALID = -32700, -32600
CALL = '{"name":"echo","arguments":{}}'


def params(text: str) -> str:
    return request("tools/call", text, "5")


BROKEN: dict[str, tuple[str | bytes, int, object]] = {
    "not UTF-8": (b'{"jsonrpc":"2.0","id":5,"method":"ping","x":"\xff"}', PARSE, None),
    "a lone byte": (b"\xff", PARSE, None),
    "a surrogate as bytes": (b'{"jsonrpc":"2.0","id":5,"method":"ping","x":"\xed\xa0\x80"}', PARSE, None),
    "a byte order mark": (b"\xef\xbb\xbf" + request("ping", None, "5").encode(), PARSE, None),
    "text after the value": (request("ping", None, "5") + " x", PARSE, None),
    "a second message": (request("ping", None, "5") * 2, PARSE, None),
    "NaN": (params('{"name":"echo","arguments":{"n":NaN}}'), PARSE, None),
    "Infinity": (params('{"name":"echo","arguments":{"n":-Infinity}}'), PARSE, None),
    "a raw control character": (params('{"name":"echo","arguments":{"n":"\x01"}}'), PARSE, None),
    "cut off": (params(CALL)[:-3], PARSE, None),
    "blanks": ("  \t ", PARSE, None),
    "a word": ("nul", PARSE, None),
    "a comma too many": (params('{"name":"echo","arguments":{},}'), PARSE, None),
    "single quotes": ("{'jsonrpc':'2.0'}", PARSE, None),
    "one brace": ("{", PARSE, None),
    "an equal key in the envelope": ('{"jsonrpc":"2.0","id":5,"method":"ping","method":"tools/list"}', INVALID, 5),
    "an id that stands twice": ('{"jsonrpc":"2.0","id":5,"id":6,"method":"ping"}', INVALID, None),
    "an equal key in params": (params('{"name":"echo","name":"other","arguments":{}}'), INVALID, 5),
    "an equal key behind an escape": (params('{"name":"echo","n\\u0061me":"other","arguments":{}}'), INVALID, 5),
    "an equal key far inside": (params('{"name":"echo","arguments":{"a":[{"b":1,"b":2}]}}'), INVALID, 5),
    "keys equal after folding": (params('{"name":"echo","arguments":{"a":{"k":1,"K":2}}}'), INVALID, 5),
    "a long s": (params('{"name":"echo","argument\u017f":{}}'), INVALID, 5),
    "a Kelvin sign": ('{"jsonrpc":"2.0","id":5,"method":"x/y","params":{"ta\u017f\u212a":{}}}', INVALID, 5),
    "a method in capitals": ('{"jsonrpc":"2.0","id":5,"METHOD":"ping"}', INVALID, 5),
    "a member of the metadata in capitals": (params('{"name":"echo","_meta":{"ProgressToken":1}}'), INVALID, 5),
    "a control character in a key": (params('{"name\\u0000":"echo"}'), INVALID, 5),
    "an invisible character in a key": (params('{"name":"echo","arguments":{"a\u200b":1}}'), INVALID, 5),
    "an invisible letter in a key": (params('{"name":"echo","arguments":{"a\u3164":1}}'), INVALID, 5),
    "too deep": (params('{"name":"echo","arguments":{"d":' + "[" * 127 + "]" * 127 + "}}"), INVALID, 5),
    "far too deep": ("[" * 100_000, INVALID, None),
    "an integer beyond all digits": (params('{"name":"echo","arguments":{"n":1' + "0" * 5000 + "}}"), INVALID, 5),
    "a float that overflows": (params('{"name":"echo","arguments":{"n":1e400}}'), INVALID, 5),
    "half a pair": (params('{"name":"echo","arguments":{"s":"\\ud800"}}'), INVALID, 5),
    "half a pair in a key": (params('{"name":"echo","arguments":{"\\udc00":1}}'), INVALID, 5),
    "half a pair in the id": (request("ping", None, '"\\ud800"'), INVALID, "\ud800"),
    "params that are an array": (request("tools/call", "[]", "5"), INVALID, 5),
    "params that are null": (request("tools/list", "null", "5"), INVALID, 5),
    "a method and a result": ('{"jsonrpc":"2.0","id":5,"method":"ping","result":{}}', INVALID, 5),
    "neither method nor answer": ('{"jsonrpc":"2.0","id":5}', INVALID, 5),
    "a method that is no string": ('{"jsonrpc":"2.0","id":5,"method":1}', INVALID, 5),
    "id null": (request("ping", None, "null"), INVALID, None),
    "id 1.5": (request("ping", None, "1.5"), INVALID, None),
    "id 1.0": (request("ping", None, "1.0"), INVALID, None),
    "id true": (request("ping", None, "true"), INVALID, None),
    "id an object": (request("ping", None, "{}"), INVALID, None),
    "an array": (f"[{call('echo', request_id='5')}]", INVALID, None),
    "an empty array": ("[]", INVALID, None),
    "a string": ('"tools/call"', INVALID, None),
}
"""The line, the code, and the id of the answer."""
