// An event through the stages, as a line in time: when it passed each, and how long that took.

import { h } from "../core/dom.js";
import { clock, milliseconds } from "../core/format.js";
import { THING } from "../core/names.js";
import { address } from "../core/router.js";
import { unnoted } from "../core/traces.js";
import { badge, fullTime, unknown } from "./figures.js";
import { accountLink, eventLink } from "./links.js";
import { explained } from "./terms.js";

/** What each stage is, in the words of the page. */
export const STAGES = {
  received: ["Received", "the request came"],
  decided: ["Decided", "the account service decided the command"],
  forwarded: ["Forwarded", "the event was stored, and the stream had it"],
  delivered: ["Delivered", "a worker began to apply it"],
  written: ["Written", "the document was written"],
  visible: ["Visible", "the balance service learned of it"],
  whole: ["All of it", "from received to visible"],
};

/** What happens at each stage, for who sees it the first time, and the view that shows it. */
const WALK = {
  received: () => [
    "The request came in and got a correlation id. All that it causes has this id: events, log lines, spans. ",
    h("a", { href: address("overview") }, "See the commands of all"),
  ],
  decided: ({ account_id: account, version }) => [
    `The account service made the ${THING}'s state of its events, and checked the command against it: what it decided is one more event, version ${version}. `,
    eventLink(account, version, "See the event"),
  ],
  forwarded: () => [
    "The account service stored the event in MongoDB, where it can't be lost, and answered the client. The forwarder read it from MongoDB's change stream and put it into the log, into the partition to which the ",
    explained("Slot", `${THING}'s slot`),
    " belongs. All events of one account stay in order there. ",
    h("a", { href: address("events") }, "See the events as they are forwarded"),
  ],
  delivered: () => [
    "The worker that owns the partition has fetched the event. A ",
    explained("leases", "lease"),
    " says which worker that is. ",
    h("a", { href: address("partitions") }, "See who owns which"),
  ],
  written: ({ account_id: account }) => [
    "The worker folded the event into the document and wrote that with its version, so nothing older can replace it. Then it wrote the ",
    explained("Position", "checkpoint"),
    ". ",
    THING === "account" && ["See the account: ", accountLink(account)],
  ],
  visible: () => "The balance service has heard of it: whoever reads now sees it, and who waited for this version has an answer.",
};

const COMMON = 3;

/**
 * The stages of one event: those that all projections share, then those of each.
 * @param {{projections: {projection: string, left_out: boolean, stages: {stage: string, at: string | null,
 *   milliseconds: number | null}[]}[]}} event
 * @param {boolean} walk whether each is explained
 * @param {string | null} since when the times of what workers write are noted
 */
export function stations(event, walk = false, since = null) {
  const [first] = event.projections;
  const wanted = event.projections.filter((each) => !each.left_out);
  const missed = wanted.filter((each) => each.document_version >= event.version && unnoted(each.stages, since));
  const rows = [
    ...(first?.stages.slice(0, COMMON) ?? []),
    ...wanted
      .filter((each) => walk || !missed.includes(each))
      .flatMap((each) => each.stages.slice(COMMON).map((stage) => ({ ...stage, of: each.projection }))),
  ];
  /** What is the same in each projection is explained once. */
  const isFirst = (n) => rows.findIndex(({ stage }) => stage === rows[n].stage) === n;
  const times = rows.filter((each) => each.at).map((each) => Date.parse(each.at));
  const [from, to] = [Math.min(...times), Math.max(...times)];
  return [
    h(
      "ol",
      { class: "stations" },
      rows.map((each, n) => station(each, from, Math.max(1, to - from), walk && isFirst(n) && WALK[each.stage](event))),
    ),
    missed.length > 0 &&
      h(
        "p",
        { class: "dim" },
        `Delivered, written and visible in ${missed.map((each) => each.projection).join(" and ")}: noted since `,
        fullTime(since),
        " UTC only, and this was before.",
      ),
  ];
}

function station({ stage, at, milliseconds: after, of }, from, length, why) {
  const [name, what] = STAGES[stage];
  const end = at ? Date.parse(at) - from : 0;
  const start = Math.max(0, end - Math.max(0, after ?? 0));
  return h(
    "li",
    { key: `${of ?? ""} ${stage}`, title: what },
    h("span", { class: "name" }, name, of && h("span", { class: "dim" }, ` in ${of}`)),
    h(
      "span",
      { class: "line", "aria-hidden": "true" },
      at && h("span", { style: { left: percent(start, length), width: percent(end - start, length) } }),
    ),
    h("span", { class: "took" }, took(after)),
    at
      ? h("time", { class: "dim", datetime: at }, `${clock(at)}${at.slice(19, 23)}`)
      : unknown(stage === "received" ? "the client made the correlation id, which has no time" : "not yet, or not recorded"),
    why && h("p", { class: `why ${at ? "" : "dim"}` }, why),
  );
}

const percent = (part, whole) => `${(100 * part) / whole}%`;

const took = (number) => (number === null ? "" : `${number < 0 ? "" : "+"}${milliseconds(number)}`);

/** Why an event has not come further, or that it is where readers see it. */
export function whereabouts(event) {
  if (event.stream_unknown) return [badge("warn", "not in the stream"), " ", event.stream_unknown];
  return event.projections.map((each) => [each.projection, ": ", state(each, event), " "]);
}

function state(at, { version }) {
  if (at.left_out) return badge("plain", "left out");
  if (at.parked) return [badge("warn", "parked"), " ", at.parked.reason];
  if (at.document_version >= version) return badge("good", "readers see it");
  if (at.document_version_unknown) return [badge("warn", "unknown"), " ", at.document_version_unknown];
  return badge("plain", "on its way");
}
