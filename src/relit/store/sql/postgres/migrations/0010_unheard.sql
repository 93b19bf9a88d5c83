-- Calls to tools outside of turns are looked for by what they ask.
CREATE INDEX tool_calls_unheard ON tool_calls (agent, tool, hash) WHERE run = '';
