// Server-sent events, read from the body of an answer: unlike an EventSource, that takes a key.

/**
 * The events of a body as they come, until it ends. Comments are left out.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<{event: string, data: string}>}
 */
export async function* events(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parsed(block);
      if (event) yield event;
    }
  }
}

/** One block of lines; null when it has no data. */
export function parsed(block) {
  const lines = block
    .split(/\r?\n/)
    .map((line) => /^(\w+): ?(.*)$/.exec(line))
    .filter(Boolean);
  const data = lines.filter(([, field]) => field === "data").map(([, , value]) => value);
  const event = lines.findLast(([, field]) => field === "event")?.[2] ?? "message";
  return data.length ? { event, data: data.join("\n") } : null;
}
