// A consumer in another language: it follows all events, by the AsyncAPI document alone.
// `save` puts events and the position after them into its database, at the same time.
async (position) => {
  const contract = await (await fetch("/asyncapi.json")).json();
  const channel = contract.operations.followEvents.channel.$ref.split("/").pop();
  const { address } = contract.channels[channel];
  const got = [];

  const listen = () => {
    const source = new EventSource(`${address}?after=${position}`);
    source.onmessage = ({ data, lastEventId }) => {
      const { id, subject, version } = JSON.parse(data);
      got.push({ id, subject, version });
      position = lastEventId;
    };
    source.onerror = () => {
      // It has given up, for the answer was a problem; a lost connection it mends by itself.
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 200);
    };
  };

  const keep = async () => {
    if (got.length) await save(got.splice(0), position);
    setTimeout(keep, 50);
  };
  listen();
  keep();
};
