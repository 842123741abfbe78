-- expand: a licence can be suspended. The default is what the release before means by a licence.

ALTER TABLE licences ADD COLUMN status text NOT NULL DEFAULT 'active';
ALTER TABLE licences ADD CONSTRAINT licences_status_check CHECK (status IN ('active', 'suspended')) NOT VALID;
