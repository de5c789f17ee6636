-- name: find_key
SELECT name, role FROM api_keys WHERE hash = %(hash)s;

-- name: use_link
UPDATE sign_in_links SET used_at = now()
WHERE hash = %(hash)s AND used_at IS NULL AND expires_at > now()
RETURNING principal AS name, role;

-- name: drop_expired
DELETE FROM sessions WHERE expires_at <= now();

-- name: start_session
INSERT INTO sessions (hash, principal, role, expires_at)
VALUES (%(hash)s, %(name)s, %(role)s, now() + %(lifetime)s);

-- name: find_session
SELECT principal AS name, role, expires_at FROM sessions WHERE hash = %(hash)s AND expires_at > now();

-- name: extend_session
UPDATE sessions SET expires_at = now() + %(lifetime)s WHERE hash = %(hash)s;

-- name: end_session
DELETE FROM sessions WHERE hash = %(hash)s;
