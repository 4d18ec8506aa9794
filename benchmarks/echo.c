/* The smallest MCP server of the handshake era: one tool, `echo`. So that what is measured is the proxy.
 *
 * It looks for literal bytes and parses nothing: its callers are the benchmarks, whose frames it knows. Argument 1 is
 * how many tools it lists.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *in, *out;
static size_t in_size = 1 << 22, out_size = 1 << 22;

static void write_all(const char *from, size_t size) {
    while (size) {
        ssize_t written = write(1, from, size);
        if (written <= 0) exit(1);
        from += written;
        size -= (size_t)written;
    }
}

static size_t put(size_t at, const char *from, size_t size) {
    while (at + size > out_size) out = realloc(out, out_size *= 2);
    memcpy(out + at, from, size);
    return at + size;
}

static size_t puts_at(size_t at, const char *text) { return put(at, text, strlen(text)); }

static size_t answer(size_t at, const char *line, size_t size, int tools) {
    const char *id = memmem(line, size < 200 ? size : 200, "\"id\":", 5);
    if (!id) return at;
    id += 5;
    const char *end = id;
    while (*end != ',' && *end != '}') end++;
    at = puts_at(at, "{\"jsonrpc\":\"2.0\",\"id\":");
    at = put(at, id, (size_t)(end - id));
    size_t near = size < 300 ? size : 300;
    if (memmem(line, near, "\"tools/call\"", 12)) {
        const char *text = memmem(line, near, "\"text\":", 7);
        const char *last = line + size - 1;
        while (*last == '}') last--;
        at = puts_at(at, ",\"result\":{\"content\":[{\"type\":\"text\",\"text\":");
        at = put(at, text + 7, (size_t)(last - text - 6));
        return puts_at(at, "}]}}\n");
    }
    if (memmem(line, near, "\"initialize\"", 12))
        return puts_at(at, ",\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{}},"
                           "\"serverInfo\":{\"name\":\"echo\",\"version\":\"1\"}}}\n");
    if (memmem(line, near, "\"tools/list\"", 12)) {
        char name[32];
        at = puts_at(at, ",\"result\":{\"tools\":[");
        for (int tool = 0; tool < tools; tool++) {
            if (tool) snprintf(name, sizeof name, "echo_%d", tool);
            at = puts_at(at, tool ? ",{\"name\":\"" : "{\"name\":\"");
            at = puts_at(at, tool ? name : "echo");
            at = puts_at(at, "\",\"description\":\"Gives the text back.\",\"inputSchema\":{\"type\":\"object\","
                             "\"properties\":{\"text\":{\"type\":\"string\",\"maxLength\":4194304},"
                             "\"times\":{\"type\":\"integer\",\"minimum\":1}},\"required\":[\"text\"],"
                             "\"additionalProperties\":false}}");
        }
        return puts_at(at, "]}}\n");
    }
    return puts_at(at, ",\"result\":{}}\n");
}

int main(int argc, char **argv) {
    int tools = argc > 1 ? atoi(argv[1]) : 1;
    size_t held = 0;
    in = malloc(in_size);
    out = malloc(out_size);
    for (int fd = 0; fd < 2; fd++) fcntl(fd, F_SETPIPE_SZ, 1 << 20);
    for (;;) {
        if (held == in_size) in = realloc(in, in_size *= 2);
        ssize_t got = read(0, in + held, in_size - held);
        if (got <= 0) return 0;
        size_t seen = held, start = 0, answers = 0;
        held += (size_t)got;
        for (char *end; (end = memchr(in + seen, '\n', held - seen)); seen = start) {
            answers = answer(answers, in + start, (size_t)(end - in) - start, tools);
            start = (size_t)(end - in) + 1;
        }
        write_all(out, answers);
        memmove(in, in + start, held - start);
        held -= start;
    }
}
