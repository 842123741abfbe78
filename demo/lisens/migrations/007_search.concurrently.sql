-- expand: what the lists search and filter by. Built beside running traffic, one statement after the other,
-- outside of a transaction; what a broken attempt left behind is removed first.

CREATE INDEX CONCURRENTLY IF NOT EXISTS users_by_word ON users USING gin (to_tsvector('simple', name));
CREATE INDEX CONCURRENTLY IF NOT EXISTS users_of_role ON users (role, created_at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_of_status ON orders (status, created_at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS licences_of_user ON licences (user_id, created_at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS licences_of_status ON licences (status, created_at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS users_by_email ON users (lower(email));
