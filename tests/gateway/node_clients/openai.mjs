import OpenAI from "openai";
import { say, serve } from "./asked.mjs";

const client = (url, apiKey, maxRetries) => new OpenAI({ baseURL: `${url}/openai/v1`, apiKey, maxRetries });
const user = (content) => [{ role: "user", content }];
const chat = (text, more) => ({ model: "m", max_tokens: 100, messages: user(text), ...more });

await serve(client, {
  async chat(ai, { text, model = "m" }) {
    const found = await ai.chat.completions.create(chat(text, { model }));
    return { text: found.choices[0].message.content, usage: found.usage };
  },
  async stream(ai, { text }) {
    const stream = await ai.chat.completions.create(
      chat(text, { stream: true, stream_options: { include_usage: true } }),
    );
    let usage = null;
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) say(chunk.choices[0].delta.content);
      usage = chunk.usage ?? usage;
    }
    return usage;
  },
  async leave(ai, { text }) {
    const stream = await ai.chat.completions.create(chat(text, { stream: true }));
    for await (const _ of stream) break;
  },
  async abort(ai, { text }) {
    const giving = new AbortController();
    const asking = ai.chat.completions.create(chat(text), { signal: giving.signal });
    setTimeout(() => giving.abort(), 1000); // it is under way by then
    await asking;
  },
  async tools(ai, { text, tools, streams }) {
    const asked = chat(text, { tools });
    const found = streams
      ? await ai.chat.completions.stream(asked).finalChatCompletion()
      : await ai.chat.completions.create(asked);
    const { role, tool_calls } = found.choices[0].message;
    const result = { role: "tool", tool_call_id: tool_calls[0].id, content: "sunny" };
    const again = { ...asked, messages: [...asked.messages, { role, content: null, tool_calls }, result] };
    const then = await ai.chat.completions.create(again);
    return { name: tool_calls[0].function.name, given: tool_calls[0].function.arguments, then: then.id };
  },
  async structure(ai, { text, format }) {
    const found = await ai.chat.completions.parse(chat(text, { response_format: format }));
    return found.choices[0].message.parsed;
  },
  async image(ai, { parts }) {
    await ai.chat.completions.create(chat(parts));
  },
  async responses(ai, { text }) {
    const found = await ai.responses.create({ model: "m", input: text });
    let streamed = "";
    const stream = await ai.responses.create({ model: "m", input: text, stream: true });
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") streamed += event.delta;
    }
    return { text: found.output_text, streamed };
  },
  async lists(ai) {
    const models = [];
    for await (const model of ai.models.list()) models.push(model.id);
    const found = await ai.embeddings.create({ model: "m", input: ["one", "two"] });
    return { models, sizes: found.data.map((each) => each.embedding.length) };
  },
});
