import Anthropic from "@anthropic-ai/sdk";
import { jsonSchemaOutputFormat } from "@anthropic-ai/sdk/helpers/json-schema";
import { say, serve } from "./asked.mjs";

const client = (url, apiKey, maxRetries) => new Anthropic({ baseURL: `${url}/anthropic`, apiKey, maxRetries });
const asked = (content, more) => ({ model: "m", max_tokens: 100, messages: [{ role: "user", content }], ...more });
const text = (message) => message.content.filter((each) => each.type === "text").map((each) => each.text).join("");

await serve(client, {
  async chat(ai, options) {
    const found = await ai.messages.create(asked(options.text, { model: options.model ?? "m" }));
    return { text: text(found), usage: found.usage };
  },
  async stream(ai, options) {
    const stream = ai.messages.stream(asked(options.text));
    stream.on("text", (piece) => say(piece));
    return (await stream.finalMessage()).usage;
  },
  async leave(ai, options) {
    const stream = await ai.messages.create(asked(options.text, { stream: true }));
    for await (const event of stream) if (event.type === "content_block_delta") break;
  },
  async abort(ai, options) {
    const giving = new AbortController();
    const asking = ai.messages.create(asked(options.text), { signal: giving.signal });
    setTimeout(() => giving.abort(), 1000); // it is under way by then
    await asking;
  },
  async tools(ai, options) {
    const first = asked(options.text, { tools: options.tools });
    const found = options.streams
      ? await ai.messages.stream(first).finalMessage()
      : await ai.messages.create(first);
    const [use] = found.content;
    const result = { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "sunny" }] };
    const messages = [...first.messages, { role: "assistant", content: found.content }, result];
    const then = await ai.messages.create({ ...first, messages });
    return { name: use.name, given: JSON.stringify(use.input), then: then.id };
  },
  async structure(ai, options) {
    const format = jsonSchemaOutputFormat(options.format);
    return (await ai.messages.parse(asked(options.text, { output_config: { format } }))).parsed_output;
  },
  async image(ai, { parts }) {
    await ai.messages.create(asked(parts));
  },
  async lists(ai) {
    const models = [];
    for await (const model of ai.models.list()) models.push(model.id);
    const counted = await ai.messages.countTokens({ model: "m", messages: [{ role: "user", content: "weather" }] });
    return { models, counted: counted.input_tokens };
  },
});
