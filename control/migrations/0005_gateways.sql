-- What one token of a gateway can do is bounded. Whose word a slice is, and how far it goes beyond what was granted:

-- The id of the token by which the holder speaks, empty for one without; NULL for a slice from before that was noted, which
-- the first token to report for it takes over.
ALTER TABLE budget_slices ADD COLUMN token TEXT;
-- By how much the holder is believed beyond what it was granted; NULL is zero. `state` has one more: 3, struck out.
ALTER TABLE budget_slices ADD COLUMN claimed BIGINT;
CREATE INDEX budget_slices_by_token ON budget_slices (budget, starts_at, token);

-- Books whose text is long stand before that of their snapshot in pieces, each written by itself: nobody waits for all of them.
CREATE TABLE fleet_parts (
    seq BIGINT NOT NULL,
    part BIGINT NOT NULL,
    books TEXT NOT NULL,
    PRIMARY KEY (seq, part)
);
