"""Mutations of the product that a checker must not believe: what each breaks, and what shows it."""

from pathlib import Path
from typing import Final, NamedTuple


class Mutation(NamedTuple):
    """`old`, found exactly once in `file`, becomes `new`; `faults` and `seed` bring it out, in the
    bank or in another `application`."""

    name: str
    file: str
    old: str
    new: str
    faults: str
    seed: int = 1
    minutes: float = 0.6
    application: str = "bank"


class NotThere(Exception):
    """The text of a mutation is not in its file exactly once: the product has moved on."""


def mutate(mutation: Mutation, root: Path) -> None:
    """Change the copy of the repository in `root`. Raises `NotThere`."""
    path = root / mutation.file
    text = path.read_text() if path.exists() else ""
    if (times := text.count(mutation.old)) != 1:
        raise NotThere(f"{mutation.name}: {times} times in {mutation.file}: {mutation.old!r}")
    path.write_text(text.replace(mutation.old, mutation.new))


MUTATIONS: Final = (
    Mutation(
        "checkpoint and ack before the write",
        "pipeline/agents/partition_processor.py",
        """        count = await self._persistently(lambda: self._write(""",
        """        owned.applied = max(delivery.last for delivery in batch)
        for delivery in batch:
            delivery.done()
        count = await self._persistently(lambda: self._write(""",
        "index-blocked,kill-worker",
        seed=340,  # seven of its kills fall into the time when no document can be written
    ),
    Mutation(
        "no version guard on documents",
        "pipeline/search/bulk_format.py",
        """        "version": write.version,
        "version_type": "external",
""",
        "",
        "stop-worker,kill-worker",
    ),
    Mutation(
        "resume token saved before the events",
        "pipeline/forwarder/stream_publisher.py",
        "        last = messages[-1]\n",
        """        first = [OutgoingMessage("balance.token", b"", {TOKEN_HEADER: token})]
        self.sequence = await self._publish(first)
        last = messages[-1]
""",
        "slow-nats,kill-forwarder",
        seed=31,  # many of its kills fall into the time when publishing is slow
        minutes=1.0,
    ),
    Mutation(
        "no expected sequence",
        "pipeline/messaging/client.py",
        '        headers[0]["Nats-Expected-Last-Sequence"] = str(expected)\n',
        "        pass\n",
        "stop-forwarder,hang-nats",
    ),
    Mutation(
        "no markers to all partitions but one",
        "pipeline/forwarder/leader.py",
        "await self._publisher.publish(number + markers, token)",
        "await self._publisher.publish(number + markers[:1], token)",
        "history-lost",
    ),
    Mutation(
        "markers are not heeded",
        "pipeline/agents/apply.py",
        "            if is_marker(data):\n",
        "            if is_marker(data) and not data:\n",
        "history-lost",
    ),
    Mutation(
        "seek forgotten",
        "pipeline/agents/acquire.py",
        "    seek = not possible or position < floor or floor < claimed.live.at\n",
        "    seek = not possible\n",
        "kill-elasticsearch,items-busy",
    ),
    Mutation(
        "an index made anew is not filled",
        "pipeline/agents/partition_processor.py",
        "            await self._persistently(lambda: self._backfill(owned))\n",
        "            pass\n",
        "index-deleted",
    ),
    Mutation(
        "double write forgotten in a rebuild",
        "pipeline/agents/apply.py",
        "        await building.table.apply(begun)\n",
        "        begun.clear()\n",
        "rebuild,rebuild-killed",
    ),
    Mutation(
        "the epoch is not raised",
        "pipeline/tables/epochs.py",
        "    epoch = 1 + max(above,",
        "    epoch = max(1, above,",
        "kill-worker,stop-worker",
    ),
    Mutation(
        "items that were too busy are forgotten",
        "pipeline/search/client.py",
        "            busy.append(i)\n",
        "            pass\n",
        "items-busy",
    ),
    Mutation(
        "no unique version of an account",
        "pipeline/eventstore/indexes.py",
        'IndexModel(ORDER, unique=True, name="account_version")',
        'IndexModel(ORDER, name="account_version")',
        "kill-redis",
    ),
    Mutation(
        "a transfer outside its transaction",
        "pipeline/eventstore/transactions.py",
        "await self._events.insert_many(documents, session=session)",
        "await self._events.insert_many(documents)",
        "kill-accounts,kill-mongodb",
    ),
    Mutation(
        "a write without an answer counts as stored",
        "pipeline/eventstore/append_queue.py",
        "            return refusals(error)\n",
        "            return refusals(error)\n        except PyMongoError:\n            pass\n",
        "kill-mongodb,cut-mongodb",
    ),
    Mutation(
        "no idempotency check",
        "pipeline/commands/execution.py",
        '            event["idempotency_key"], event["request"] = context.key, context.request\n',
        '            event["request"] = context.request\n',
        "kill-redis",
    ),
    Mutation(
        "a key is taken for another command",
        "pipeline/commands/idempotency.py",
        '        if event.get("request") != request:\n',
        "        if not request:\n",
        "kill-redis",
    ),
    Mutation(
        "a repeated answer tells of the account as it is now",
        "pipeline/commands/idempotency.py",
        'after = await states.at(event["account_id"], event["version"])',
        'after = await states.present(event["account_id"])',
        "kill-redis",
    ),
    Mutation(
        "nobody looks at the balance before a withdrawal",
        "pipeline/banking/account.py",
        "    if state.available < money:\n",
        "    if state.available < -money:\n",
        "kill-redis",
    ),
    Mutation(
        "what is held can be spent",
        "pipeline/banking/account.py",
        "        return self.balance - held(self.holds) if self.holds else self.balance\n",
        "        return self.balance\n",
        "kill-worker",
    ),
    Mutation(
        "a capture is counted twice",
        "pipeline/banking/balance.py",
        "balance - paid, status",
        "balance - 2 * paid, status",
        "kill-worker",
    ),
    Mutation(
        "a hold that expired can end once more",
        "pipeline/banking/holds.py",
        "if other != name}\n",
        'if other != name or event["kind"] == EXPIRED}\n',
        "kill-worker,clock-worker",
    ),
    Mutation(
        "a hold expires as soon as anybody looks",
        "pipeline/processes/runner.py",
        """        if not waking:
            return _AHEAD_SECONDS
        if waking[0].wake > now:
            return LOOK_SECONDS
        now = min(now, await states.now())
""",
        """        now = datetime.max.replace(tzinfo=UTC)
        waking = await states.waking(name, now, _WAKING)
""",
        "kill-worker,clock-worker",
    ),
    Mutation(
        "a deadline that is answered twice",
        "pipeline/processes/instance.py",
        'return f"{self.process.name}→{its}/{number}"',
        'return f"{self.process.name}→{its}/{number}/{datetime.now(UTC)}"',
        "kill-worker,kill-mongodb,slow-mongodb,stop-worker",
        application="parcels",
    ),
    Mutation(
        "a transfer is reversed as often as somebody asks",
        "pipeline/commands/joint.py",
        "            context = replace(context, key=only)\n",
        "            pass\n",
        "kill-redis",
    ),
    Mutation(
        "a read does not wait for its version",
        "api/balances/waiting.py",
        "            if has(there, version):\n                return there, True\n",
        "            return there, True\n",
        "stop-worker,slow-nats",
    ),
    Mutation(
        "shares at the end of a page are counted twice",
        "pipeline/search/group_reader.py",
        '{"range": {self._groups.by: {"gt": after}}}',
        '{"range": {self._groups.by: {"gte": after}}}',
        "rebuild,kill-worker",
    ),
    Mutation(
        "each event follows the first one",
        "pipeline/model/versioned.py",
        "        head, begun = hash_of(event), chained(event)\n",
        "        head, begun = before.hash, chained(event)\n",
        "kill-redis",
    ),
    Mutation(
        "a key that is not deleted",
        "pipeline/commands/forgetting.py",
        "    deleted = bool(version) and await store.keys.forget(aggregate_id, version)\n",
        "    deleted = bool(version)\n",
        "forget",
    ),
    Mutation(
        "nobody looks at the unique indexes",
        "pipeline/eventstore/guards.py",
        "self._note(collection, faults(collection, indexes, there))",
        "self._note(collection, {})",
        "index-dropped",
    ),
    Mutation(
        "aliases are put right at start only",
        "pipeline/agents/projection_runner.py",
        '            "the repair of aliases": self.context.generations.mend,\n',
        "",
        "alias-added",
    ),
    Mutation(
        "trouble of an index parks its accounts",
        "pipeline/search/client.py",
        '                bad = [i for i in doubted if by_position[i].get("bad")]\n',
        "                bad = doubted\n",
        "index-closed",
    ),
    Mutation(
        "a bulk that is too large is sent again as it is",
        "pipeline/search/client.py",
        "                hopeless = status in _REFUSED or attempt % _TRIES == _TRIES - 1\n",
        "                hopeless = False\n",
        "bulk-too-large",
    ),
    Mutation(
        "the connection to a Redis that became a replica is kept",
        "pipeline/coordination/leases.py",
        "            await self._redis.connection_pool.disconnect()\n",
        "            pass\n",
        "redis-failover",
    ),
    Mutation(
        "an ack that does not wait for its documents",
        "pipeline/search/shared_client.py",
        "        return await self._documents.add(lines, items)\n",
        """        import asyncio

        self.sent = asyncio.ensure_future(self._documents.add(lines, items))
        (action,) = orjson.loads(lines.partition(b"\\n")[0]).values()
        return [{"status": 200, "_index": action["_index"].replace("-g", "-")}] * items
""",
        "elasticsearch-503,kill-worker",
    ),
    Mutation(
        "a checkpoint beside a refused item",
        "pipeline/search/group_commit.py",
        "                own = list(islice(left, member.items))\n",
        """                own = list(islice(left, member.items))
                for each in own:
                    if len(group) > 1 and each.get("status", 0) in (429, 503):
                        each.update(status=200, _index=each["_index"].replace("-g", "-"))
""",
        "items-busy",
    ),
)
