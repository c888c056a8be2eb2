// What the balance service answers, as far as the page reads it. A null figure is an unknown one.

/**
 * @typedef {{name: string, up: boolean, state: "up" | "slow" | "silent" | "down", detail: string | null}} Server
 * @typedef {{rate: number | null, outcomes: Record<string, number>, p50_ms: number | null, p99_ms: number | null,
 *   unknown: string | null}} Commands
 * @typedef {{role: "accounts" | "balances" | "forwarder" | "worker", name: string,
 *   state: "ready" | "waiting" | "silent" | "ended" | "unknown", detail: string | null, since: string, seen: string,
 *   rate: number | null}} Instance
 * @typedef {"amber" | "red" | null} Alarm
 * @typedef {{events: number | null, rate: number | null, unknown: string | null}} Stored
 * @typedef {Stored & {lag_events: number | null, lag_seconds: number | null, alarm: Alarm}} Forwarded
 * @typedef {{projection: string, rate: number | null, lag_events: number | null, lag_seconds: number | null,
 *   alarm: Alarm, furthest: {partition: number, lag_seconds: number, since: string | null} | null,
 *   parked: number | null, last_parked: number | null, newest_parked: string[], unknown: string | null}} Projected
 * @typedef {{name: string, state: "here" | "left" | "lost", partitions: number[], seen: string}} Worker
 * @typedef {{partition: number, owner: string | null, epoch: number | null, position: number | null,
 *   lag_events: number | null, lag_seconds: number | null, unknown: string | null, owner_unknown: string | null,
 *   parked: number | null}} Partition
 * @typedef {{partition: number, state: "waiting" | "replaying" | "replayed" | "done", done: number, total: number,
 *   events_per_second: number, seconds_left: number | null, owner: string}} Part
 * @typedef {{id: string, projection: string, kind: string, state: "running" | "done" | "cancelled" | "failed",
 *   phase: string, partitions: Part[], started: string, finished: string | null, reason: string | null,
 *   done: number, total: number}} Rebuild
 * @typedef {{at: string, servers: Server[], commands: Commands, stored: Stored, forwarded: Forwarded, projected: Projected[],
 *   forwarder: {leader: string | null, unknown: string | null}, workers: Worker[], workers_unknown: string | null,
 *   instances: Instance[], instances_unknown: string | null, partitions: Partition[], rebuild: Rebuild | null}} Pipeline
 * @typedef {{account_id: string, version: number, kind: string, reason: string, since: string, attempts: number,
 *   retry: boolean}} Parked
 * @typedef {{keys: boolean, id: string | null, role: string | null, expires: string | null, accounts: string[]}} Who
 */

export {};
