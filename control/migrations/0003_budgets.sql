-- What is spent of budgets: not in the trail, as it changes with every request. Times are milliseconds since 1970.

-- A budget's windows, with the sums of their slices. An exchange begins by updating this row, so those of a window come one
-- after another, on all servers.
CREATE TABLE budget_windows (
    budget TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    -- What nobody else can have, and what was spent of it.
    held BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    -- The highest threshold that was reached, in percent, and the highest that was told; 0 for none.
    reached BIGINT NOT NULL,
    told BIGINT NOT NULL,
    -- When anybody was last heard, and since when there was no minute in which nobody was.
    heard_at BIGINT NOT NULL,
    awake_since BIGINT NOT NULL,
    PRIMARY KEY (budget, starts_at)
);
CREATE INDEX budget_windows_to_tell ON budget_windows (budget, starts_at) WHERE reached > told;
CREATE INDEX budget_windows_by_end ON budget_windows (ends_at);

-- The slices of a window: what each holder was granted, gave back and spent, all told.
CREATE TABLE budget_slices (
    budget TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    holder TEXT NOT NULL,
    granted BIGINT NOT NULL,
    returned BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    -- 0: open. 1: written off, as its holder was not heard for too long. 2: over.
    state BIGINT NOT NULL,
    heard_at BIGINT NOT NULL,
    PRIMARY KEY (budget, starts_at, holder)
);
CREATE INDEX budget_slices_open ON budget_slices (budget, starts_at, heard_at) WHERE state = 0;
CREATE INDEX budget_slices_by_last_word ON budget_slices (heard_at);

-- What is to be sent to the webhook.
CREATE TABLE notices (
    id TEXT PRIMARY KEY,
    -- Whose it is; empty where it is no organization's, or that of several. Of each so many wait, and they take turns.
    org TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL
);
CREATE INDEX notices_by_due ON notices (due_at);
CREATE INDEX notices_by_org ON notices (org);
