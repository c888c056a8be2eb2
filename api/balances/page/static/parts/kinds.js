// The kinds of events, as people call them.

export const KINDS = {
  AccountCreated: "Opened",
  MoneyDeposited: "Paid in",
  MoneyWithdrawn: "Paid out",
  OwnerUpdated: "Owner changed",
  AccountFrozen: "Frozen",
  AccountUnfrozen: "Unfrozen",
  AccountClosed: "Closed",
  MoneyHeld: "Held",
  HoldCaptured: "Captured",
  HoldVoided: "Hold voided",
  HoldExpired: "Hold expired",
  OwnerForgotten: "Owner forgotten",
};

/** A kind that has no name here is called as it is. */
export const kindName = (kind) => KINDS[kind] ?? String(kind);
