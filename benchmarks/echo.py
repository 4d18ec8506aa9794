"""The same server as echo.c, where no C compiler is: raw Python, no library."""

import os
import sys

SCHEMA = (
    b'{"type":"object","properties":{"text":{"type":"string","maxLength":4194304},"times":{"type":"integer",'
    b'"minimum":1}},"required":["text"],"additionalProperties":false}'
)
OPENING = (
    b',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'
    b'"serverInfo":{"name":"echo","version":"1"}}}\n'
)


def tool(number: int) -> bytes:
    name = b"echo_%d" % number if number else b"echo"
    return b'{"name":"%b","description":"Gives the text back.","inputSchema":%b}' % (name, SCHEMA)


def answer(line: bytes, listed: bytes) -> bytes:
    head = line[:300]
    at = head.find(b'"id":')
    if at < 0:
        return b""
    end = min(found for found in (head.find(b",", at), head.find(b"}", at)) if found >= 0)
    begun = b'{"jsonrpc":"2.0","id":' + head[at + 5 : end]
    if b'"tools/call"' in head:
        text = line[line.index(b'"text":') + 7 :].rstrip(b"}")
        return begun + b',"result":{"content":[{"type":"text","text":' + text + b"}]}}\n"
    if b'"initialize"' in head:
        return begun + OPENING
    if b'"tools/list"' in head:
        return begun + b',"result":{"tools":[' + listed + b"]}}\n"
    return begun + b',"result":{}}\n'


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    listed = b",".join(map(tool, range(count)))
    held: list[bytes] = []
    while chunk := os.read(0, 1 << 20):
        *lines, rest = chunk.split(b"\n")
        if lines and held:
            lines[0] = b"".join((*held, lines[0]))
            held.clear()
        if rest:
            held.append(rest)
        answers = b"".join(answer(line, listed) for line in lines)
        while answers:
            answers = answers[os.write(1, answers) :]


main()
