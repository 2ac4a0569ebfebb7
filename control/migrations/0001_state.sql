-- The same for SQLite and PostgreSQL: only types, constraints and indices that both know.

-- The end of the trail. A write begins by updating this row, so writes come one after another.
CREATE TABLE head (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    -- Which database this is: versions of two are never compared.
    name TEXT NOT NULL,
    seq BIGINT NOT NULL,
    -- The last entry's; before the first one, the name.
    hash TEXT NOT NULL
);

-- What there is, each as one JSON document. `seq` is the entry of the trail that wrote it last.
CREATE TABLE objects (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    org TEXT NOT NULL,
    -- SHA-256 of a key or token, by which it is found; its 32 bytes, as hexadecimal digits make an index twice as large.
    sha256 BYTEA,
    revision BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    gone BIGINT NOT NULL,
    -- 1 for a freeze, cap or restriction that has not ended and for a key that is not revoked, 0 for everything else.
    in_force BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX objects_by_change ON objects (kind, seq);
-- Without what was removed: whoever makes and removes without end makes no list slower.
CREATE INDEX objects_by_org ON objects (kind, org, id) WHERE gone = 0;
CREATE INDEX objects_in_force ON objects (kind, id) WHERE in_force = 1 AND kind <> 'key';
CREATE INDEX objects_in_force_by_org ON objects (kind, org, id) WHERE in_force = 1;
CREATE UNIQUE INDEX objects_by_sha256 ON objects (kind, sha256) WHERE sha256 IS NOT NULL;

-- The trail: nothing here is ever changed.
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    -- As the entry says, to be found by.
    org TEXT NOT NULL,
    entry TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX audit_by_org ON audit (org, seq);

-- Answers to creates that may be sent again.
CREATE TABLE idempotency (
    token TEXT NOT NULL,
    key TEXT NOT NULL,
    request TEXT NOT NULL,
    seq BIGINT NOT NULL,
    status BIGINT NOT NULL,
    answer TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (token, key)
);
