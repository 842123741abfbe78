-- expand: looks through the rows for the checks of 004 and 005. In a file of its own: beside ALTER TABLE ... ADD it would
-- keep everybody out for as long as it looks.

ALTER TABLE users VALIDATE CONSTRAINT users_role_check;
ALTER TABLE licences VALIDATE CONSTRAINT licences_status_check;
