// A client on the TypeScript SDK: calls one tool, answers each question with the given action, prints what came.
// The SDK's folder comes in SDK, since a script elsewhere finds no packages.
import { existsSync, writeFileSync } from "node:fs";

const sdk = process.env.SDK;
const { Client } = await import(`${sdk}/client/index.js`);
const { StdioClientTransport } = await import(`${sdk}/client/stdio.js`);
const { ElicitRequestSchema } = await import(`${sdk}/types.js`);

const [action, args, command, ...rest] = process.argv.slice(2);
const asked = [];
const client = new Client({ name: "typescript", version: "1" }, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, async (request) => {
  asked.push(request.params.message);
  const folder = process.env.MEANWHILE; // The test wants something to happen before the answer.
  if (folder) {
    writeFileSync(`${folder}/asked`, "");
    while (!existsSync(`${folder}/go`)) await new Promise((then) => setTimeout(then, 20));
  }
  return action === "accept" ? { action, content: {} } : { action };
});
await client.connect(new StdioClientTransport({ command, args: rest, env: process.env }));
const result = await client.callTool({ name: "send", arguments: JSON.parse(args) });
await client.close();
const blocks = result.content.map((block) => block.type);
console.log(JSON.stringify({ asked, error: result.isError ?? false, text: result.content[0].text, blocks }));
