// A client on the TypeScript SDK: for each line, calls one tool, answers each question as it says, and prints what came.
// The SDK's folder comes in SDK, since a script elsewhere finds no packages.
import { existsSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

const sdk = process.env.SDK;
const { Client } = await import(`${sdk}/client/index.js`);
const { StdioClientTransport } = await import(`${sdk}/client/stdio.js`);
const { ElicitRequestSchema } = await import(`${sdk}/types.js`);

async function serve({ action, arguments: given, command: [command, ...args], meanwhile }) {
  const asked = [];
  const client = new Client({ name: "typescript", version: "1" }, { capabilities: { elicitation: {} } });
  client.setRequestHandler(ElicitRequestSchema, async (request) => {
    asked.push(request.params.message);
    if (meanwhile) {
      // The test wants something to happen before the answer.
      writeFileSync(`${meanwhile}/asked`, "");
      while (!existsSync(`${meanwhile}/go`)) await new Promise((then) => setTimeout(then, 20));
    }
    return action === "accept" ? { action, content: {} } : { action };
  });
  await client.connect(new StdioClientTransport({ command, args, env: process.env }));
  const result = await client.callTool({ name: "send", arguments: given });
  await client.close();
  const blocks = result.content.map((block) => block.type);
  console.log(JSON.stringify({ asked, error: result.isError ?? false, text: result.content[0].text, blocks }));
}

for await (const line of createInterface({ input: process.stdin })) await serve(JSON.parse(line));
