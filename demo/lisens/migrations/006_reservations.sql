-- expand: kinds of which there are only so many, and places that are held while somebody pays.

INSERT INTO licence_kinds (kind, name, price_ore, valid_days)
VALUES ('finalelisens', 'Finalelisens (begrenset antall)', 55000, 3);

CREATE TABLE licence_quotas (
    kind   text PRIMARY KEY REFERENCES licence_kinds (kind),
    places integer NOT NULL CHECK (places >= 0),
    taken  integer NOT NULL DEFAULT 0 CHECK (taken BETWEEN 0 AND places)
);
INSERT INTO licence_quotas (kind, places) VALUES ('finalelisens', 500);

-- One a user: a new one takes the place of the older one. The prices are those of the moment.
CREATE TABLE reservations (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    bigint NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
    lines      jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX reservations_by_expiry ON reservations (expires_at);

-- Keys are looked through by age when they are thrown away.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
