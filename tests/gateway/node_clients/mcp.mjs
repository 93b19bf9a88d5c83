// The official SDK for TypeScript in both eras: `modern` is its newer client, `legacy` the one that agents carry.
import { Client as Modern, StreamableHTTPClientTransport as ModernWay } from "@modelcontextprotocol/client";
import { Client as Legacy } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyWay } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { serve } from "./asked.mjs";

const about = { name: "test", version: "1" };

async function connected({ url, token }, era) {
  const headers = { Authorization: `Bearer ${token}` };
  const [Client, Way] = era === "modern" ? [Modern, ModernWay] : [Legacy, LegacyWay];
  const client = new Client(about, {});
  await client.connect(new Way(new URL(`${url}/mcp`), { requestInit: { headers } }));
  return client;
}

await serve((url, token) => ({ url, token }), {
  async list(at, { era }) {
    const client = await connected(at, era);
    const found = (await client.listTools()).tools;
    await client.close();
    return found.map((each) => each.name);
  },
  async call(at, { era, name, args, ms }) {
    const client = await connected(at, era);
    try {
      const request = { name, arguments: args };
      const options = ms ? { timeout: ms } : undefined;
      const found = era === "modern" ? await client.callTool(request, options) : await client.callTool(request, undefined, options);
      return { text: found.content.map((each) => each.text).join(""), failed: found.isError ?? false };
    } finally {
      await client.close();
    }
  },
});
