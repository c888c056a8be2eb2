"""A small Faust app that knows nothing of the bridge: only its broker's URL is `nats://…`."""

import os

import faust

app = faust.App(
    "greeter",
    broker=os.environ.get("GREETER_BROKER", "nats://127.0.0.1:4222"),
    store="memory://",
    topic_partitions=4,
    web_enabled=False,
)
names = app.topic("names", value_type=str)
counts = app.Table("counts", default=int)


@app.agent(names)
async def greet(stream: faust.StreamT[str]) -> None:
    async for name in stream:
        counts[name] += 1
        print(f"Hello {name}, number {counts[name]}", flush=True)
