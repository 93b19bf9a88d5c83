// One line of JSON asks for a scenario, one line tells what came of it; lines with "said" may come before that.
import readline from "node:readline";

const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");
export const say = (said) => tell({ said });

const failure = (error) => ({
  class: error.constructor.name,
  status: error.status ?? null,
  code: error.error?.code ?? error.error?.error?.code ?? null,
  type: error.type ?? error.error?.error?.type ?? null,
  message: error.message,
  after: error.headers?.get("retry-after") ?? null,
});

export async function serve(client, scenarios) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { scenario, url, token, retries, ...options } = JSON.parse(line);
    try {
      tell({ value: (await scenarios[scenario](client(url, token, retries), options)) ?? null });
    } catch (error) {
      tell({ error: failure(error) });
    }
  }
}
