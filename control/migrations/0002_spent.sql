-- How much of their quotas of writes confined tokens and their organizations have used: when each will be whole again,
-- in microseconds since 1970. See `write_quota.rs`.
CREATE TABLE spent (
    -- `org/NAME` or `token/ID`.
    subject TEXT PRIMARY KEY,
    writes_until BIGINT NOT NULL,
    bytes_until BIGINT NOT NULL
);
