// The bank at a glance: how far behind it is, the way from a command to the projection, servers and processes.

import { h, render, section } from "../core/dom.js";
import { BANK } from "../core/names.js";
import { address } from "../core/router.js";
import { activity } from "../parts/activity.js";
import { CommandForm, commandsFor } from "../parts/command.js";
import { lag } from "../parts/lag.js";
import { processes } from "../parts/processes.js";
import { servers } from "../parts/servers.js";
import { stages } from "../parts/stages.js";

export const title = "Overview";

const EMPTY = "Open its first account, and see how a command goes from here to where balances are read.";

const empty = (form) =>
  section("empty", "This bank is empty", h("p", { class: "lead" }, EMPTY), form.shown());

const yourOwn = () => h("p", null, h("a", { href: address("command") }, "Send a command of your own, and follow it"));

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal, who }) {
  const mayOpen = BANK && commandsFor(who()).includes("create");
  const form = new CommandForm("create", {}, who(), () => draw(), signal);
  const hour = activity(() => draw(), signal);
  const draw = () =>
    live.reading &&
    render(
      [
        mayOpen && live.reading.stored.events === 0 && empty(form),
        section("behind", "How far behind", lag(live.reading, live.hour)),
        section("way", "From the command to the projection", stages(live.reading, live.recent), mayOpen && yourOwn()),
        section("servers", "Servers", servers(live.reading)),
        section("processes", "Processes", processes(live.reading)),
        section("hour", "The last hour", hour()),
      ],
      place,
    );
  live.follow(draw, signal);
}
