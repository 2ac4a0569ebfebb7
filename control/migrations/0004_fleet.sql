-- Limits that gateways keep together: the coordinator's books, as what it was sent. Not part of the trail.

-- A message begins by updating this row, so messages come one after another, whichever server takes them.
CREATE TABLE fleet (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    -- Which store has the books: this database, or a Redis.
    kept TEXT NOT NULL,
    -- By which rule the books are kept; 0 to have them begun anew.
    rule BIGINT NOT NULL,
    -- Which history of PostgreSQL's they are in, as a standby that took over may have less.
    place TEXT NOT NULL,
    -- The last entry of the log.
    seq BIGINT NOT NULL,
    -- Of the log, since the last snapshot.
    bytes BIGINT NOT NULL
);
INSERT INTO fleet (one, kept, rule, place, seq, bytes) VALUES (1, 'the database', 0, '', 0, 0);

-- What was heard, and when: each entry one or more messages, as JSON.
CREATE TABLE fleet_log (
    seq BIGINT PRIMARY KEY,
    -- Microseconds since 1970, by the database's clock.
    wall BIGINT NOT NULL,
    messages TEXT NOT NULL
);

-- The books as they were after an entry of the log, as JSON.
CREATE TABLE fleet_snapshot (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    seq BIGINT NOT NULL,
    books TEXT NOT NULL
);
