-- `in_force` is 1 for a key that is not revoked too: those of an organization are counted without the many that were.
UPDATE objects SET in_force = 1
WHERE kind = 'key' AND gone = 0 AND REPLACE(document, '"revoked_at":"', '') = document;
